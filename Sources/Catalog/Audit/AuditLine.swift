import Foundation
import Media
import SealedFile

/// One line of an exported audit log: fields between tabs, in UTF-8. Bytes below 0x20, 0x7F and `%` are written as `%XX`.
///
/// A line can be written in one way only: read and written again it is the same bytes, so that no flipped bit is lost in reading.
///
///     mitschnitt-audit-export  2
///     notice      TEXT
///     consent     EVENT (canonical JSON)
///     entry       SEQUENCE  AT (ns since 1970)  ACTOR  ACTION  OBJECT  DETAIL  SALT  LEAF  HASH
///     erased      SEQUENCE  LEAF  HASH
///     checkpoint  SIGNED NOTE
///     end         ENTRIES  CHECKPOINTS
///
/// Notices come first, then the consents of each recording in their order, then the entries; a checkpoint stands behind the last entry
/// that it covers.
public enum AuditLine: Hashable, Sendable {
    case head
    case notice(String)
    case consent(String)
    case record(AuditRecord)
    case checkpoint(String)
    case end(entries: Int, checkpoints: Int)

    /// Longest line that is read, without its newline.
    public static let bytesMax = 1 << 20
    static let kind = "mitschnitt-audit-export"
    static let version = "2"

    public var text: String { fields.map(Self.escaped).joined(separator: "\t") }

    private var fields: [String] {
        switch self {
        case .head: return [Self.kind, Self.version]
        case .notice(let text): return ["notice", text]
        case .consent(let event): return ["consent", event]
        case .checkpoint(let note): return ["checkpoint", note]
        case .end(let entries, let checkpoints): return ["end", String(entries), String(checkpoints)]
        case .record(let record):
            guard let (entry, salt) = record.content else { return ["erased", String(record.sequence), record.leaf.hex, record.hash.hex] }
            return ["entry", String(record.sequence), String(entry.at.nanoseconds), entry.actor, entry.action, entry.object, entry.detail, Hexadecimal.text(salt),
                    record.leaf.hex, record.hash.hex]
        }
    }

    /// Reads a line; nil where it is none.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count <= Self.bytesMax else { return nil }
        var fields: [String] = []
        for field in bytes.split(separator: 0x09, omittingEmptySubsequences: false) {
            guard let text = Self.plain(field) else { return nil }
            fields.append(text)
        }
        guard let line = Self.line(fields), Array(line.text.utf8) == bytes else { return nil }
        self = line
    }

    private static func line(_ fields: [String]) -> AuditLine? {
        switch (fields[0], fields.count) {
        case (kind, 2): return fields[1] == version ? .head : nil
        case ("notice", 2): return .notice(fields[1])
        case ("consent", 2): return .consent(fields[1])
        case ("checkpoint", 2): return .checkpoint(fields[1])
        case ("end", 3): return Int(fields[1]).flatMap { entries in Int(fields[2]).map { .end(entries: entries, checkpoints: $0) } }
        case ("erased", 4):
            guard let sequence = Int(fields[1]), let leaf = AuditHash(hex: fields[2]), let hash = AuditHash(hex: fields[3]) else { return nil }
            return .record(AuditRecord(sequence: sequence, entry: nil, salt: [], leaf: leaf, hash: hash))
        case ("entry", 10):
            guard let sequence = Int(fields[1]), let at = Int64(fields[2]), let salt = Hexadecimal.bytes(fields[7]), let leaf = AuditHash(hex: fields[8]),
                  let hash = AuditHash(hex: fields[9]) else { return nil }
            let entry = AuditEntry(sequence: sequence, at: WallTime(nanoseconds: at), actor: fields[3], action: fields[4], object: fields[5], detail: fields[6])
            return .record(AuditRecord(sequence: sequence, entry: entry, salt: salt, leaf: leaf, hash: hash))
        default: return nil
        }
    }

    private static func isPlain(_ byte: UInt8) -> Bool { byte >= 0x20 && byte != 0x7F && byte != 0x25 }

    private static func escaped(_ field: String) -> String {
        guard !field.utf8.allSatisfy(isPlain) else { return field }
        let digits = Array("0123456789ABCDEF".utf8)
        return String(decoding: field.utf8.flatMap { isPlain($0) ? [$0] : [0x25, digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    private static func plain(_ field: ArraySlice<UInt8>) -> String? {
        func digit(_ byte: UInt8) -> UInt8? { byte >= 48 && byte <= 57 ? byte - 48 : byte >= 65 && byte <= 70 ? byte - 55 : nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(field.count)
        var place = field.startIndex
        while place < field.endIndex {
            if field[place] == 0x25 {
                guard place + 2 < field.endIndex, let high = digit(field[place + 1]), let low = digit(field[place + 2]) else { return nil }
                bytes.append(high << 4 | low)
                place += 3
            } else {
                bytes.append(field[place])
                place += 1
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

