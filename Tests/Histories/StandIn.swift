import Depacketize
import Foundation
import Glibc
import Media
import PacketLog
import Renditions
import SealedFile

/// Stages without codecs: what comes out holds what went in, so that it can be seen whose media is in a rendition.
enum StandIn {
    static func run(_ order: StageOrder, _ descriptors: [Int32]) throws -> StageResult {
        var content: [UInt8] = []
        var (first, last) = (nil as WallTime?, nil as WallTime?)
        for input in order.inputs {
            let own = input.descriptors.map { descriptors[$0] }
            switch input.content {
            case .packetLog(let identity, _, let segments):
                let reader = TrackLogReader(segments: zip(segments, own).map { .init(number: $0, descriptor: $1) }, identity: identity, key: input.key)
                while let record = try reader.next() {
                    guard case .rtp(let arrival, let bytes) = record else { continue }
                    content += bytes.dropFirst(12)
                    (first, last) = (min(first ?? arrival, arrival), max(last ?? arrival, arrival))
                }
            case .track(let context, _), .rendition(let context, _):
                content += try read(own[0], input.key, context)
                content += Array((input.label ?? "").utf8)
            case .file: throw StageRunError.failed(StageFailure(code: .unsupportedCodec, what: "no files here"))
            }
        }
        guard !content.isEmpty else { throw StageRunError.failed(StageFailure(code: .nothingToDo, what: "there is nothing in it")) }
        let span = order.span ?? WallSpan(start: first ?? WallTime(nanoseconds: 0), end: last ?? WallTime(nanoseconds: 0))
        let reports = try order.outputs.map { output in
            let writer = try SealedWriter(descriptor: descriptors[output.descriptor], key: output.key, context: output.context)
            try writer.append(content)
            let digest = try writer.finish()
            return OutputReport(bytes: Int64(digest.plaintextBytes), ciphertextSHA256: digest.ciphertextSHA256, startWall: span.start, duration: span.duration, verified: OutputVerification(packets: content.count))
        }
        var track: TrackSummary?
        if let first, let last, case .packetLog(let identity, _, _) = order.inputs[0].content {
            track = TrackSummary(kind: identity.kind, codec: nil, startWall: first, endWall: last + .milliseconds(20), blanks: [], verdict: TrackVerdict())
        }
        return StageResult(outputs: reports, track: track)
    }

    static func read(_ descriptor: Int32, _ key: DataKey, _ context: SealedContext) throws -> [UInt8] {
        let reader = try SealedReader(descriptor: descriptor, key: key, context: context)
        return try reader.read(at: 0, count: reader.length)
    }
}
