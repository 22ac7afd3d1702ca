import Media
import RTP

/// What each payload type of a track stands for, looked up once.
struct PayloadTypes: Sendable {
    enum Role: Hashable, Sendable {
        case picture(Codec)
        case sound(Codec)
        /// RFC 2198: sound, or pictures with forward error correction beside them.
        case redundant
        /// RFC 4588, with the payload type that is sent again.
        case retransmission(of: UInt8)
        /// RFC 4733, with its clock rate.
        case tone(clockRate: Int)
        /// RFC 3389.
        case noise
        /// Takes sequence numbers and holds nothing of its own (RFC 5109 parity).
        case filler
        case unsupported(Codec)
        /// Not announced.
        case unknown
    }

    private let roles: [Role]

    init(_ format: TrackFormat) {
        let repaired = Retransmission.mediaTypes(of: format)
        var roles = [Role](repeating: .unknown, count: 128)
        for (type, codec) in format.codecs where type < 128 { roles[Int(type)] = repaired[type].map { .retransmission(of: $0) } ?? Self.role(codec, format.parameters[type]) }
        self.roles = roles
    }

    subscript(_ type: UInt8) -> Role { roles[Int(type & 0x7F)] }

    /// Without a copy of the role.
    func isRedundant(_ type: UInt8) -> Bool { if case .redundant = roles[Int(type & 0x7F)] { true } else { false } }

    /// The codecs whose media can be given out, and the names of those that cannot be read at all.
    var supported: [Codec] {
        roles.compactMap { role in
            switch role {
            case .picture(let codec), .sound(let codec): codec
            default: nil
            }
        }
    }
    var unsupported: [Codec] { roles.compactMap { if case .unsupported(let codec) = $0 { codec } else { nil } } }

    /// A format's parameters can make it one that cannot be read: interleaved NAL units (`packetization-mode=2`).
    private static func role(_ codec: Codec, _ parameters: String?) -> Role {
        switch codec.name {
        case "red": .redundant
        case "telephone-event": .tone(clockRate: codec.clockRate)
        case "cn": .noise
        case "rtx", "ulpfec", "flexfec", "flexfec-03": .filler
        default:
            AudioFormats.isSupported(codec) ? .sound(codec)
                : VideoFormats.assembler(for: codec, parameters: parameters) != nil ? .picture(codec) : .unsupported(codec)
        }
    }
}
