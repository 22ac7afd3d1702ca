/// What an assembler must know of a NAL unit of H.264 or H.265.
enum NALUnit: Hashable {
    case slice(NALSlice)
    case parameterSet(NALParameterSet)
    /// Whatever came before, from this access unit on decoding is right (recovery point SEI with `recovery_frame_cnt` 0).
    case recoveryPoint
    /// Kept as it is.
    case other
    /// Says nothing that a file needs: delimiters, filler, other layers.
    case superfluous
}

/// The head of a slice.
struct NALSlice: Hashable {
    var isFirst: Bool
    /// IDR; in H.265 any IRAP.
    var isRandomAccess = false
    /// Pictures that follow in decoding order may need what came before (CRA, BLA with leading pictures).
    var hasLeading = false
    /// What came before is not what they need, even if nothing was lost (BLA).
    var isBrokenLink = false
    /// Comes after a random access point and may need what came before it (RASL; B slices after a recovery point).
    var isLeading = false
    /// No picture needs this one.
    var isDisposable = false
    /// I or SI.
    var isIntra = false
    var pictureSet: Int
}

/// A parameter set's own number and that of the one it builds on.
struct NALParameterSet: Hashable {
    enum Kind: Int, Comparable {
        case video, sequence, picture
        static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    var kind: Kind
    var number: Int
    var base: Int?
    /// Of sequence parameter sets, after cropping.
    var size: PictureSize?

    struct Name: Hashable {
        var kind: Kind
        var number: Int
    }

    var name: Name { Name(kind: kind, number: number) }
}

/// How a payload carries NAL units.
enum NALPacket: Hashable {
    case single
    /// 16-bit lengths, each followed by its NAL unit, from this place on.
    case aggregate(from: Int)
    /// A part of one NAL unit, from this place on.
    case fragment(from: Int, isStart: Bool, isEnd: Bool)
}

/// What differs between H.264 and H.265 for an assembler.
protocol NALSyntax: Sendable {
    /// Nil where the format forbids the payload, or it is of a kind that is not used here.
    static func packet(_ payload: UnsafeRawBufferPointer) -> NALPacket?
    /// The NAL unit header that the fragments leave out.
    static func header(ofFragment payload: UnsafeRawBufferPointer) -> [UInt8]
    /// Nil where the bytes are no NAL unit, or one that only packets are.
    static func unit(_ nal: UnsafeRawBufferPointer) -> NALUnit?
    /// Whether its first bytes are those of a random access point or of what stands in front of one.
    static func beginsKeyFrame(header: UInt8) -> Bool
    /// Parameter sets of this kind are needed.
    static var firstKind: NALParameterSet.Kind { get }
}

extension NALSyntax {
    static func beginsKeyFrame(_ payload: UnsafeRawBufferPointer) -> Bool {
        switch packet(payload) {
        case nil: return false
        case .single: return beginsKeyFrame(header: payload[0])
        case .fragment(_, let isStart, _): return isStart && beginsKeyFrame(header: header(ofFragment: payload)[0])
        case .aggregate(let from):
            var found = false
            _ = forEachUnit(in: payload, from: from) { found = found || beginsKeyFrame(header: $0[0]) }
            return found
        }
    }

    /// Calls `body` with each aggregated NAL unit; false where a length does not fit.
    static func forEachUnit(in payload: UnsafeRawBufferPointer, from: Int, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        var at = from
        while at < payload.count {
            guard payload.count - at > 2 else { return false }
            let length = Int(payload[at]) << 8 | Int(payload[at + 1])
            guard length > 0, length <= payload.count - at - 2 else { return false }
            body(UnsafeRawBufferPointer(rebasing: payload[at + 2..<at + 2 + length]))
            at += 2 + length
        }
        return true
    }
}
