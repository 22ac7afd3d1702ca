import FFmpeg
import Media
import Renditions
import SealedFile

extension Verification {
    /// Seconds at the beginning and at the end that are read.
    private static let endSeconds = 2.0

    /// Looks at a file that was written over the hours before: its index, its beginning and its end, in the same time however long it is.
    func ends(of expectation: OutputExpectation) throws -> OutputVerification {
        // Neither of these has an index, or grows much.
        if output.container == .json || output.container == .jpeg { return try check(expectation) }
        do {
            let source = CheckedSource(try SealedReader(descriptor: descriptor, key: output.key, context: output.context))
            guard source.length == bytes else { throw Self.failure("it has \(source.length) bytes of \(bytes)") }
            let demuxer = try Demuxer(source, as: container)
            switch expectation {
            case .track(let packets, let last, _):
                // The sender's packets are not decoded here.
                try readEnds(demuxer, last: last.seconds, within: 0.1, decodes: false)
                return OutputVerification(packets: packets)
            case .sound(let packets, let samples):
                guard demuxer.streams.count == 1 else { throw Self.failure("it has \(demuxer.streams.count) streams") }
                try compare(demuxer, { $0.isAudio }, packets)
                try readEnds(demuxer, last: Double(samples) / 48_000, within: 0.1, decodes: true)
                return OutputVerification(packets: packets)
            case .movie(let pictures, let rate, let soundPackets, _):
                guard demuxer.streams.count == (soundPackets == nil ? 1 : 2) else { throw Self.failure("it has \(demuxer.streams.count) streams") }
                try compare(demuxer, { $0.isVideo }, pictures)
                if let soundPackets { try compare(demuxer, { $0.isAudio }, soundPackets) }
                try readEnds(demuxer, last: Double(pictures - 1) / Double(rate), within: 0.1, decodes: true)
                return OutputVerification(packets: pictures + (soundPackets ?? 0))
            case .peaks, .still: return try check(expectation)
            }
        } catch let failure as StageFailure {
            throw failure
        } catch {
            throw Self.failure("\(error)")
        }
    }

    /// The index has so many packets of a stream. Ogg has no index.
    private func compare(_ demuxer: Demuxer, _ isIt: (Demuxer.Stream) -> Bool, _ packets: Int) throws {
        guard container == .mp4 else { return }
        let found = demuxer.streams.first(where: isIt)?.indexed ?? 0
        guard found == packets else { throw Self.failure("its index has \(found) packets of \(packets)") }
    }

    /// Reads the first seconds, then those before `last`, where the last packet must begin.
    func readEnds(_ demuxer: Demuxer, last: Double, within tolerance: Double, decodes: Bool) throws {
        var found = -Double.infinity
        for from in [nil, max(0, last - Self.endSeconds)] {
            if let from {
                if last <= Self.endSeconds { break }
                try demuxer.seek(to: from)
            }
            let decodings = decodes ? try Dictionary(uniqueKeysWithValues: demuxer.streams.map { ($0.index, try Decoding($0)) }) : [:]
            // What a seek lands on may need sound before it to sound right, but none to be decoded.
            let packet = Packet(), streams = demuxer.streams
            while try demuxer.read(into: packet) {
                guard streams.indices.contains(packet.streamIndex), packet.hasTime else { throw Self.failure("a packet has no time or no stream") }
                let time = Double(packet.pts) * streams[packet.streamIndex].timeBase.value
                found = max(found, time)
                try decodings[packet.streamIndex]?.take(packet)
                if from == nil, last > Self.endSeconds, time > Self.endSeconds { break }
            }
            if from != nil || last <= Self.endSeconds { for decoding in decodings.values { try decoding.finish() } }
        }
        guard abs(found - last) <= tolerance else { throw Self.failure("its last packet is at \(found) s, not at \(last)") }
    }
}
