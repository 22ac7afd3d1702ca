/// The container of a finished file, told by its first bytes and by nothing else: what is not one of these is never handed to a demuxer.
public enum FileContainer: String, Codable, Sendable, CaseIterable {
    /// MP4, QuickTime (ISO/IEC 14496-12).
    case mp4
    /// Matroska, WebM (RFC 9559).
    case matroska
    case wav
    /// RFC 3533.
    case ogg

    /// Bytes that are needed to tell.
    public static let headBytes = 12

    public init?(firstBytes bytes: [UInt8]) {
        func says(_ text: String, at place: Int) -> Bool { bytes.dropFirst(place).starts(with: text.utf8) }
        if bytes.starts(with: [0x1A, 0x45, 0xDF, 0xA3]) { self = .matroska
        } else if says("OggS", at: 0) { self = .ogg
        } else if says("WAVE", at: 8), ["RIFF", "RF64", "BW64"].contains(where: { says($0, at: 0) }) { self = .wav
        } else if ["ftyp", "moov", "mdat", "wide", "free"].contains(where: { says($0, at: 4) }) { self = .mp4
        } else { return nil }
    }
}
