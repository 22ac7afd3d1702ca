/// The Range header of a request for bytes (RFC 9110 section 14.2).
enum ByteRanges: Hashable {
    /// No range that we understand: the whole is sent.
    case whole
    case parts([Range<Int>])
    case unsatisfiable

    /// More ranges than this in one request are answered with the whole.
    static let partsMax = 16

    /// Overlapping and touching ranges are joined, so that nobody can ask for one byte a thousand times.
    init(_ header: String?, length: Int) {
        guard let header, header.hasPrefix("bytes=") else {
            self = .whole
            return
        }
        let specs = header.dropFirst(6).split(separator: ",", omittingEmptySubsequences: false).map { $0.filter { $0 != " " && $0 != "\t" } }
        guard specs.count <= Self.partsMax else {
            self = .whole
            return
        }
        var parts: [Range<Int>] = []
        for spec in specs {
            guard let dash = spec.firstIndex(of: "-") else {
                self = .whole
                return
            }
            let (first, last) = (spec[..<dash], spec[spec.index(after: dash)...])
            guard (first + last).allSatisfy({ $0.isASCII && $0.isNumber }), !(first.isEmpty && last.isEmpty) else {
                self = .whole
                return
            }
            // A number too large for Int lies beyond any file.
            let (from, to) = (Int(first) ?? (first.isEmpty ? nil : .max), Int(last) ?? (last.isEmpty ? nil : .max))
            switch (from, to) {
            case (nil, let suffix?): if suffix > 0, length > 0 { parts.append(max(0, length - min(suffix, length))..<length) }
            case (let from?, let to?) where to < from:
                self = .whole
                return
            case (let from?, let to): if from < length { parts.append(from..<min(length, (to.map { min($0, length - 1) } ?? length - 1) + 1)) }
            default: break
            }
        }
        guard !parts.isEmpty else {
            self = .unsatisfiable
            return
        }
        var joined: [Range<Int>] = []
        for part in parts.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = joined.last, part.lowerBound <= last.upperBound { joined[joined.count - 1] = last.lowerBound..<max(last.upperBound, part.upperBound) } else { joined.append(part) }
        }
        self = .parts(joined)
    }
}
