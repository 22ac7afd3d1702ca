import Catalog
import Foundation
import Recorder

/// What `mitschnitt audit` reads: a data folder, or something that was exported from one.
enum AuditSource {
    case folder(AuditReader)
    case export(String)
    case consistency(AuditConsistency)
    case receipt(ReceiptView)

    /// Longest receipt or proof that is read.
    private static let bytesMax = 64 << 20

    init(_ path: String) throws {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { throw CommandError(what: "\(path) is not there") }
        if isFolder.boolValue {
            self = .folder(try Self.reader(path))
            return
        }
        let head = try Self.read(path, 64)
        if head.starts(with: Data(AuditConsistency.head.utf8)) {
            guard let text = String(data: try Self.read(path, Self.bytesMax), encoding: .utf8), let proof = AuditConsistency(text) else {
                throw AuditFault(place: .end, why: "the consistency proof cannot be read, or a byte of it was changed")
            }
            self = .consistency(proof)
        } else if head.first == UInt8(ascii: "{") {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            do { self = .receipt(try decoder.decode(ReceiptView.self, from: try Self.read(path, Self.bytesMax))) } catch {
                throw AuditFault(place: .end, why: "\(path) is no receipt, or it was changed")
            }
        } else {
            self = .export(path)
        }
    }

    static func reader(_ folder: String) throws -> AuditReader {
        let path = URL(filePath: folder).appending(path: "catalog.sqlite").path
        guard FileManager.default.fileExists(atPath: path) else { throw CommandError(what: "\(folder) is no data folder", hint: "there is no catalog.sqlite in it") }
        do { return try AuditReader(path: path) } catch { throw CommandError(what: "\(path) cannot be read: \(error)") }
    }

    private static func read(_ path: String, _ count: Int) throws -> Data {
        let file = try FileHandle(forReadingFrom: URL(filePath: path))
        defer { try? file.close() }  // only read
        return try file.read(upToCount: count) ?? Data()
    }

    /// Checks the file in pieces, however long it is.
    static func verify(_ path: String, _ keys: [VerifierKey], _ held: [AuditCheckpoint]) throws -> AuditSummary {
        let file = try FileHandle(forReadingFrom: URL(filePath: path))
        defer { try? file.close() }  // only read
        return try AuditVerifier.verify(keys: keys, held: held) { try file.read(upToCount: 1 << 18).flatMap { $0.isEmpty ? nil : Array($0) } }
    }

    /// Gives the log's lines one after the other, unchecked.
    func lines(_ body: (AuditLine) throws -> Void) throws {
        switch self {
        case .folder(let reader): try reader.lines(body)
        case .export(let path):
            for line in try Data(contentsOf: URL(filePath: path), options: .alwaysMapped).split(separator: 0x0A) {
                if let line = AuditLine(Array(line)) { try body(line) }
            }
        case .consistency, .receipt: throw CommandError(what: "a proof has no entries to show", hint: "`mitschnitt audit verify` checks it")
        }
    }
}
