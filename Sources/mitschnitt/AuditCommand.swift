import ArgumentParser
import Catalog
import Consent
import Foundation
import Glibc
import Media
import Recorder
import SealedFile

/// Exports, checks and shows the audit log.
struct AuditCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit", abstract: "Export, verify and show the audit log: who did what, and under which wording who consented.",
        discussion: """
            Keep the public key (audit show --public-key) and now and then a checkpoint (audit show --checkpoint) apart from the server: with
            them nobody can rewrite the log or cut it off unnoticed, not even whoever holds the server and its keys.
            """,
        subcommands: [Export.self, Verify.self, Show.self])

    struct Export: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the log, the consents and the notices' wordings into one file that can be verified anywhere. Pseudonyms only; the server may run.")

        @Option(help: "The server's data folder.") var data = "data"
        @Option(help: "A checkpoint from earlier: write only the proof that what it covers was not changed since.") var since: String?
        @Argument(help: "The file to write; must not exist.") var file: String

        func run() throws {
            let reader = try AuditSource.reader(data)
            let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw CommandError(what: "\(file) cannot be made: \(String(cString: strerror(errno)))", hint: "it must not exist yet") }
            let output = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
            if let since {
                guard let proof = try reader.consistency(since: try AuditInput.checkpoint(since)) else {
                    throw CommandError(what: "the log has no checkpoint as large as the one in \(since)", hint: "start the server: it makes one; if it had been larger before, it was cut off")
                }
                try output.write(contentsOf: Data(proof.text.utf8))
                print("from \(proof.old.size) to \(proof.new.size) entries, \(file)")
                return
            }
            var (lines, waiting) = (0, Data())
            try reader.lines { line in
                waiting += Data(line.text.utf8) + [0x0A]
                lines += 1
                guard waiting.count >= 1 << 18 else { return }
                try output.write(contentsOf: waiting)
                waiting = Data()
            }
            try output.write(contentsOf: waiting)
            guard fsync(descriptor) == 0 else { throw CommandError(what: "\(file) could not be written: \(String(cString: strerror(errno)))") }
            print("\(lines) lines in \(file)")
        }
    }

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check an exported log, a data folder, a receipt (JSON) or a consistency proof, offline.",
            discussion: "Exit status: 0 everything is right, 1 something is wrong (the first of it is named), 2 it cannot be read.")

        @Option(help: "A public key that you trust, or a file with it; may be repeated. Without it the key that comes along is believed.") var key: [String] = []
        @Option(help: "A file with a checkpoint from earlier that the log must contain; may be repeated.") var checkpoint: [String] = []
        @Argument(help: "What to check.") var source: String

        func run() throws {
            do {
                let (keys, held) = (try key.map(AuditInput.key), try checkpoint.map(AuditInput.checkpoint))
                switch try AuditSource(source) {
                case .folder(let reader): tell(try reader.verify(keys: keys, held: held))
                case .export(let path): tell(try AuditSource.verify(path, keys, held))
                case .receipt(let receipt):
                    if let fault = receipt.fault(trusting: keys) { throw AuditFault(place: .entry(receipt.auditEntry), why: fault) }
                    print("right: the receipt says what entry \(receipt.auditEntry) of the audit log says, and the entry is in the log that was signed")
                    if keys.isEmpty { print("signed with a key that came along: \(receipt.auditProof?.key ?? "")") }
                case .consistency(let proof):
                    guard !keys.isEmpty else { throw CommandError(what: "a consistency proof comes without a key", hint: "give the public key that you trust with --key") }
                    if let fault = proof.fault(trusting: keys) { throw AuditFault(place: .checkpoint(size: proof.new.size), why: fault) }
                    print("right: nothing up to entry \(proof.old.size) was changed or cut off until entry \(proof.new.size)")
                }
            } catch let fault as AuditFault {
                print("WRONG: \(fault)")
                throw ExitCode(1)
            } catch {
                FileHandle.standardError.write(Data("\(error)\n".utf8))
                throw ExitCode(2)
            }
        }

        private func tell(_ summary: AuditSummary) {
            print("right: \(summary.entries) entries (\(summary.erased) erased), \(summary.checkpoints) checkpoints, \(summary.consents) consent events under \(summary.notices) wordings")
            if let last = summary.last { print("last checkpoint: \(last.size) entries, \(AuditInput.time(last.time))") }
            if summary.uncovered > 0 { print("\(summary.uncovered) entries since then are chained and not signed yet") }
            guard key.isEmpty else { return }
            for key in summary.keys { print("signed with a key that the log itself names: \(key.text)") }
            print("give --key with the one you hold to be sure that nobody wrote the log anew")
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show entries, or each consent with the exact wording that it was given under.", discussion: "What it shows is verified, too: exit status 1 where something is wrong.")

        @Flag(help: "Only the public keys that sign the log.") var publicKey = false
        @Flag(help: "Only the last checkpoint, as it is signed.") var checkpoint = false
        @Flag(help: "Consents with their wording instead of entries.") var consents = false
        @Option(help: "Only what concerns this object (a recording, a participant).") var object: String?
        @Option(help: "At most so many of the last entries.") var last: Int?
        @Argument(help: "A data folder, or an exported log.") var source = "data"

        func validate() throws {
            guard last.map({ (1...1_000_000).contains($0) }) ?? true else { throw ValidationError("--last is 1 to 1000000") }
        }

        func run() throws {
            let source = try AuditSource(source)
            var (verifier, fault) = (AuditVerifier(), nil as AuditFault?)
            var (wordings, shown, note) = ([String: String](), [String](), "")
            func show(_ text: String) {
                shown.append(text)
                if let last, shown.count > 2 * last { shown.removeFirst(shown.count - last) }
            }
            try source.lines { line in
                if fault == nil { do throws(AuditFault) { try verifier.take(Array(line.text.utf8)) } catch { fault = error } }
                switch line {
                case .notice(let text): wordings[AuditInput.hash(text)] = text
                case .consent(let event): if consents, let text = consent(event, wordings) { show(text) }
                case .record(let record): if !consents, let text = entry(record) { show(text) }
                case .checkpoint(let text): note = text
                case .head, .end: break
                }
            }
            if fault == nil { do throws(AuditFault) { _ = try verifier.finish() } catch { fault = error } }
            if publicKey {
                for key in verifier.namedKeys { print(key.text) }
            } else if checkpoint {
                print(note, terminator: "")
            } else {
                for text in last.map({ shown.suffix($0) }) ?? shown[...] { print(text) }
            }
            guard let fault else { return }
            FileHandle.standardError.write(Data("WRONG: \(fault)\n".utf8))
            throw ExitCode(1)
        }

        private func entry(_ record: AuditRecord) -> String? {
            guard let entry = record.content?.entry else { return object == nil ? "\(record.sequence)  erased" : nil }
            guard object.map({ entry.object == $0 || entry.actor == $0 || entry.detail.contains($0) }) ?? true else { return nil }
            return "\(record.sequence)  \(AuditInput.time(entry.at.nanoseconds / 1_000_000_000))  \(entry.actor)  \(entry.action)  \(entry.object)  \(entry.detail)"
        }

        private func consent(_ json: String, _ wordings: [String: String]) -> String? {
            // What cannot be read is named by the verifier.
            guard let event = try? JSONDecoder().decode(ConsentEvent.self, from: Data(json.utf8)),
                  object.map({ event.recording.rawValue == $0 || event.participant.rawValue == $0 }) ?? true else { return nil }
            var text = "recording \(event.recording), event \(event.sequence): \(event.participant) \(event.kind.rawValue), \(AuditInput.time(event.occurredAt.nanoseconds / 1_000_000_000))"
            if !event.modalities.isEmpty { text += "\n  \(event.modalities.map(\.rawValue).joined(separator: ", ")) for \(event.purposes.map(\.rawValue).joined(separator: ", "))" }
            guard !event.noticeHash.isEmpty else { return text }
            text += "\n  under the notice \(event.noticeVersion) (\(event.language)), SHA-256 \(event.noticeHash):"
            return text + (wordings[event.noticeHash] ?? "(its wording is not there)").split(separator: "\n", omittingEmptySubsequences: false).map { "\n  | \($0)" }.joined()
        }
    }
}

/// Keys and checkpoints as people give them.
enum AuditInput {
    private static func text(_ file: String) throws -> String {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8), text.utf8.count <= 1 << 16 else { throw CommandError(what: "\(file) cannot be read") }  // whatever the reason
        return text
    }

    static func key(_ given: String) throws -> VerifierKey {
        if let key = VerifierKey(given) { return key }
        guard let key = VerifierKey(try text(given).trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw CommandError(what: "'\(given)' is no public key and no file with one", hint: "`mitschnitt audit show --public-key` prints it: NAME+ID+KEY")
        }
        return key
    }

    static func checkpoint(_ file: String) throws -> AuditCheckpoint {
        guard let checkpoint = AuditCheckpoint(try text(file)) else { throw CommandError(what: "\(file) holds no checkpoint", hint: "`mitschnitt audit show --checkpoint` prints one") }
        return checkpoint
    }

    static func time(_ seconds: Int64) -> String { Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601) }
    static func hash(_ text: String) -> String { AuditVerifier.wordingHash(text) }
}
