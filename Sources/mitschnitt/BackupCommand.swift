import ArgumentParser
import Foundation
import Logging
import Media
import Recorder

/// A consistent copy of a data folder, taken while the server runs.
struct BackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup", abstract: "Copy a server's data, while it runs, in a way that can be restored.",
        discussion: """
            TO gets the catalog and the sealed files with their SHA-256, and apart from them, in KEYS, the wrapped keys: keep the two on different
            media, so that losing one gives nothing away. The root key and the ledger of erasures are in neither. Keep a copy of the root key; keep
            the ledger's newest state (`serve --ledger-copy`): a restore wants it, so that what people had erased stays erased.
            """)

    @Option(help: "The server's data folder.") var data: String
    @Option(help: "Folder for the wrapped keys; default: TO/keys.") var keys: String?
    @Argument(help: "Folder to make.") var to: String

    func run() async throws {
        let (data, to, keys) = (URL(filePath: data), URL(filePath: to), keys.map { URL(filePath: $0) })
        let now = WallTime(seconds: Date().timeIntervalSince1970)
        do {
            let summary = try Backup.take(of: data, to: to, keys: keys, now: now)
            print("\(summary.files) files, \(summary.bytes) bytes in \(summary.folder.path)")
            print("wrapped keys in \(summary.keys.path): move them to another medium than the rest")
            print("not in the backup, keep a copy of each apart: \(summary.rootKey.path), \(summary.ledger.path)")
        } catch let error as RecorderError {
            throw CommandError(what: error.detail, hint: error.hint)
        } catch {
            throw CommandError(what: "the backup was not made: \(error)", hint: "\(to.path) is no backup; remove it and try again")
        }
    }
}

/// A data folder from a backup.
struct RestoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Make a data folder from a backup, less everything that was erased since.",
        discussion: """
            The newest ledger of erasures is replayed before any server can answer: erased keys and files are not copied, withdrawals and refusals
            are entered in the history again, what was restricted since is restricted again, and versions that are missing for it are made anew at
            the next start. Captures that were running are over. What the ledger does not hold is lost like everything after the backup: corrected
            names and consents given. What nobody is known to have agreed to stays closed: they are asked again. Killed, run it again.
            """)

    @Option(help: "The data folder to make; must be empty or absent.") var data: String
    @Option(help: "Folder with the wrapped keys; default: FROM/keys.") var keys: String?
    @Option(help: "The root key under which the keys of the backup were wrapped.") var rootKey: String
    @Option(help: "The newest ledger of erasures: from the old data folder, or the copy kept apart.") var ledger: String?
    @Flag(help: "The ledger is lost: restore although what was erased comes back.") var withoutLedger = false
    @Option(help: "Folder with the pipelines.") var pipelines = "Pipelines"
    @Argument(help: "The backup's folder.") var from: String

    func run() async throws {
        var logger = Logger(label: "mitschnitt") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .warning
        let target = URL(filePath: data)
        let restore = Restore(backup: URL(filePath: from), keys: keys.map { URL(filePath: $0) }, data: target, rootKey: URL(filePath: rootKey), ledger: ledger.map { URL(filePath: $0) },
                              isWithoutLedger: withoutLedger, configuration: RecorderConfiguration(data: target, pipelines: URL(filePath: pipelines), stageExecutable: Companion.stage))
        do {
            let summary = try await restore.run(logger: logger)
            let day = Date(timeIntervalSince1970: summary.takenAt.seconds).formatted(.iso8601)
            print("\(summary.files) files of \(day) in \(target.path)")
            print("consents given after that are not known: what rests on them stays closed, and the people are asked again")
            if withoutLedger {
                print("no ledger was replayed: what was erased after \(day) is back. Withdraw again what you know of, and tell those concerned")
            } else {
                let done = summary.replayed
                print("erased again: \(done.recordings) recordings, \(done.tracks) tracks, \(done.renditions) versions (\(summary.leftOut) files not copied); withdrawn again: \(done.withdrawals); restrictions set or lifted again: \(done.restrictions)")
            }
        } catch let error as RecorderError {
            throw CommandError(what: error.detail, hint: error.hint)
        } catch {
            throw CommandError(what: "the restore was not finished: \(error)", hint: "run it again: it begins anew")
        }
    }
}
