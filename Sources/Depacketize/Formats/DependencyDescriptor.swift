/// The dependency descriptor header extension: which frame a packet belongs to and which frames that one needs (RTP payload format for
/// AV1, version 1.0, appendix A).
struct DependencyDescriptor: Hashable {
    /// Modulo 65536.
    var frameNumber: Int
    var beginsFrame: Bool
    var temporalLayer: Int
    var spatialLayer: Int
    /// How many frames before this one those are that it needs.
    var references: [Int]

    /// Nil where the bytes are none, or build on a structure that is not known. A structure that comes along is kept in `structure`.
    init?(_ bytes: UnsafeRawBufferPointer, structure: inout DependencyStructure?) {
        guard bytes.count >= 3 else { return nil }
        var reader = BitReader(bytes)
        beginsFrame = reader.flag()
        reader.skip(1)
        let template = reader.bits(6)
        frameNumber = reader.bits(16)
        var custom = (indications: false, references: false)
        if bytes.count > 3 {
            let hasStructure = reader.flag()
            let hasTargets = reader.flag()
            custom = (reader.flag(), reader.flag())
            reader.skip(1)
            if hasStructure {
                guard let new = DependencyStructure(&reader) else { return nil }
                structure = new
            }
            if hasTargets { reader.skip(structure?.targets ?? 0) }
        }
        guard let structure else { return nil }
        let place = (template + 64 - structure.firstTemplate) % 64
        guard place < structure.templates.count else { return nil }
        temporalLayer = structure.templates[place].temporal
        spatialLayer = structure.templates[place].spatial
        references = structure.templates[place].references
        if custom.indications { reader.skip(2 * structure.targets) }
        if custom.references {
            references = []
            while case let size = reader.bits(2), size > 0, !reader.isExhausted { references.append(reader.bits(4 * size) + 1) }
        }
        guard !reader.isExhausted else { return nil }
    }
}

/// The templates that frames' descriptors refer to; comes with each key frame.
struct DependencyStructure: Hashable {
    struct Template: Hashable {
        var temporal: Int
        var spatial: Int
        var references: [Int] = []
    }

    static let templatesMax = 64

    var firstTemplate: Int
    var targets: Int
    var templates: [Template] = []

    init?(_ reader: inout BitReader) {
        firstTemplate = reader.bits(6)
        targets = reader.bits(5) + 1
        var (temporal, spatial) = (0, 0)
        layers: while true {
            guard templates.count < Self.templatesMax, !reader.isExhausted else { return nil }
            templates.append(Template(temporal: temporal, spatial: spatial))
            switch reader.bits(2) {
            case 0: break
            case 1: temporal += 1
            case 2: (temporal, spatial) = (0, spatial + 1)
            default: break layers
            }
        }
        reader.skip(2 * templates.count * targets)
        for place in templates.indices {
            while reader.flag() { templates[place].references.append(reader.bits(4) + 1) }
        }
        let chains = Self.number(&reader, below: targets + 1)
        if chains > 0 {
            for _ in 0..<targets { _ = Self.number(&reader, below: chains) }
            reader.skip(4 * templates.count * chains)
        }
        if reader.flag() { reader.skip(32 * (spatial + 1)) }
        guard !reader.isExhausted else { return nil }
    }

    /// ns(n), AV1 bitstream specification section 4.10.7.
    private static func number(_ reader: inout BitReader, below limit: Int) -> Int {
        let width = Int.bitWidth - limit.leadingZeroBitCount
        let short = (1 << width) - limit
        let value = reader.bits(width - 1)
        return value < short ? value : (value << 1) - short + reader.bit()
    }
}
