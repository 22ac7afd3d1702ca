import Foundation

/// Looks for pieces of captured payloads in every file below a folder: the proof that nothing of somebody is on the disk.
///
/// A piece is 16 bytes; pieces that also occur in other people's payloads, or hold fewer than six different bytes, say nothing about
/// whose they are and are left out.
public struct PayloadSearch: Sendable {
    static let pieceBytes = 16
    private var wanted: Set<Piece> = []
    /// One bit for each value of a piece's first 24 bits: most windows are refused by it.
    private var filter = [UInt64](repeating: 0, count: 1 << 18)

    private struct Piece: Hashable { var a, b: UInt64 }

    public var pieces: Int { wanted.count }

    /// Takes the payloads (RTP packets without their 12-byte headers) whose pieces are searched for, less those of `others`.
    public init(payloads: [[UInt8]], others: [[UInt8]]) {
        for payload in payloads { Self.pieces(payload, step: Self.pieceBytes) { wanted.insert($0) } }
        for payload in others { Self.pieces(payload, step: 1) { wanted.remove($0) } }
        for piece in wanted {
            let key = Int(piece.a & 0xFF_FFFF)
            filter[key >> 6] |= 1 << UInt64(key & 63)
        }
    }

    private static func pieces(_ payload: [UInt8], step: Int, body: (Piece) -> Void) {
        payload.withUnsafeBytes { bytes in
            var at = 0
            while at + pieceBytes <= bytes.count {
                if Set(bytes[at..<at + pieceBytes]).count >= 6 {
                    body(Piece(a: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self), b: bytes.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self)))
                }
                at += step
            }
        }
    }

    public struct Outcome: Sendable {
        public var files = 0
        public var bytes = 0
        /// Files in which a piece was found.
        public var hits: [String] = []
    }

    /// Reads every file below `folder` byte by byte.
    public func search(_ folder: URL) throws -> Outcome {
        var outcome = Outcome()
        let all = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: [.isRegularFileKey])
        while let file = all?.nextObject() as? URL {
            guard try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else { continue }
            let data = try Data(contentsOf: file, options: .mappedIfSafe)
            outcome.files += 1
            outcome.bytes += data.count
            if contains(data) { outcome.hits.append(file.lastPathComponent) }
        }
        return outcome
    }

    /// Whether a piece is anywhere in `data`.
    public func contains(_ data: Data) -> Bool {
        data.withUnsafeBytes { bytes in
            guard bytes.count >= Self.pieceBytes else { return false }
            for at in 0...bytes.count - Self.pieceBytes {
                let a = bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                let key = Int(a & 0xFF_FFFF)
                guard filter[key >> 6] & 1 << UInt64(key & 63) != 0 else { continue }
                if wanted.contains(Piece(a: a, b: bytes.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self))) { return true }
            }
            return false
        }
    }
}

/// Looks for the marks by which unsealed media would show.
public enum PlaintextSearch {
    static let marks: [(name: String, bytes: [UInt8])] = [
        ("Matroska", [0x42, 0x82, 0x88] + Array("matroska".utf8)), ("MP4 ftyp", Array("ftypisom".utf8)), ("MP4 moov", Array("moov\0\0\0lmvhd".utf8)),
        ("Ogg", Array("OggS\0".utf8)), ("Opus", Array("OpusHead".utf8)), ("JPEG", [0xFF, 0xD8, 0xFF, 0xE0, 0x00, 0x10] + Array("JFIF".utf8)),
        ("pcap", [0xD4, 0xC3, 0xB2, 0xA1, 0x02, 0x00, 0x04, 0x00]), ("pcapng", [0x4D, 0x3C, 0x2B, 0x1A, 0x01, 0x00]),
    ]

    /// Names of files below `folder` that contain one of the marks anywhere.
    public static func search(_ folder: URL) throws -> [String] {
        var found: [String] = []
        let all = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: [.isRegularFileKey])
        while let file = all?.nextObject() as? URL {
            guard try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else { continue }
            let data = try Data(contentsOf: file, options: .mappedIfSafe)
            for mark in marks where data.range(of: Data(mark.bytes)) != nil { found.append("\(file.lastPathComponent): \(mark.name)") }
        }
        return found
    }
}
