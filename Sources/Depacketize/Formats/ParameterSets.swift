import Foundation

/// The parameter sets of an H.264 or H.265 stream, as they came last.
struct ParameterSets {
    static let bytesMax = 4_096

    private var sets: [NALParameterSet.Name: (set: NALParameterSet, bytes: [UInt8])] = [:]  // numbers are bounded by their kind's range

    init() {}

    /// From an `a=fmtp` value's `sprop-…`: base64 NAL units, separated by commas (RFC 6184 section 8.1, RFC 7798 section 7.1).
    init(sprop: [String?], unit: (UnsafeRawBufferPointer) -> NALUnit?) {
        for text in sprop.compactMap({ $0 }).flatMap({ $0.split(separator: ",").prefix(64) }) {
            guard let bytes = Data(base64Encoded: String(text)) else { continue }  // then the stream has to bring them
            if case .parameterSet(let set) = bytes.withUnsafeBytes(unit) { keep(set, Array(bytes)) }
        }
    }

    mutating func keep(_ set: NALParameterSet, _ bytes: [UInt8]) {
        guard bytes.count <= Self.bytesMax else { return }
        sets[set.name] = (set, bytes)
    }

    /// The sets that a picture with this picture parameter set needs; nil where one of them is not known.
    func chain(picture: Int, from kind: NALParameterSet.Kind) -> [NALParameterSet]? {
        guard let last = sets[.init(kind: .picture, number: picture)]?.set else { return nil }
        guard let base = last.base, let sequence = sets[.init(kind: .sequence, number: base)]?.set else { return nil }
        guard kind == .video else { return [sequence, last] }
        guard let number = sequence.base, let video = sets[.init(kind: .video, number: number)]?.set else { return nil }
        return [video, sequence, last]
    }

    /// The bytes, with start codes, of `needed` and of all picture sets that build on one of them, without those in `present`.
    func prefix(_ needed: Set<NALParameterSet>, without present: Set<NALParameterSet.Name>) -> [UInt8] {
        let bases = needed.filter { $0.kind == .sequence }.map(\.number)
        let all = sets.values.filter { entry in
            !present.contains(entry.set.name) && (needed.contains(entry.set) || entry.set.kind == .picture && entry.set.base.map(bases.contains) == true)
        }
        return all.sorted { ($0.set.kind, $0.set.number) < ($1.set.kind, $1.set.number) }.flatMap { [0, 0, 0, 1] + $0.bytes }
    }
}
