import ArgumentParser
import Catalog
import Foundation
import SealedFile

/// Looks at keys and changes the root key; never prints one.
struct KeysCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Show, check and rotate keys.",
        discussion: """
            The root key comes from systemd's credential mitschnitt-root-key, else from MITSCHNITT_ROOT_KEY (base64 or hexadecimal), else from
            DATA/root.key. Where more than one is given they must be the same.
            """,
        subcommands: [Show.self, Check.self, Rotate.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Which root key wraps how many keys. Fingerprints are HMACs; no key is shown.")

        @Option(help: "The server's data folder.") var data = "data"

        func run() throws {
            let folder = try KeyFolder(data)
            let census = try folder.store.census()
            print("root key        \(folder.source), fingerprint \(folder.root.fingerprint(under: folder.root).prefix(16))")
            print("wraps           \(census.recordings) recordings' keys and \(census.signing) that sign the audit log; opens \(census.opened) of these \(census.underRoot)")
            print("below them      \(census.tracks) tracks' keys, \(census.renditions) renditions' keys, \(census.secrets) secrets")
            for key in try folder.signers() { print("signs           \(key.text)") }
            if KeyRotation(data: folder.url).isBegun { print("a rotation was interrupted: `mitschnitt keys rotate`, or the server's next start, ends it") }
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Open every wrapped key; name those that do not open (exit status 1).")

        @Option(help: "The server's data folder.") var data = "data"

        func run() throws {
            let folder = try KeyFolder(data)
            let bad = try folder.store.unopened()
            guard bad.isEmpty else {
                for id in bad { print("does not open: \(id)") }
                print("\(bad.count) keys do not open under the root key of \(folder.source): it is another root key, or the key store is damaged")
                throw ExitCode(1)
            }
            let census = try folder.store.census()
            print("all \(census.underRoot + census.tracks + census.renditions) keys and \(census.secrets) secrets open under the root key of \(folder.source)")
        }
    }

    struct Rotate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put a new root key in the place of the old one. The server must be stopped; media are not touched.",
            discussion: """
                Killed at any point, one of the two root keys opens everything; the next run, or the server's next start, ends what was begun.
                Backups of the key store from before need the old root key, which is destroyed: make a new backup afterwards.
                """)

        @Option(help: "The server's data folder.") var data = "data"
        @Option(help: "Where the old root key is in a credential or in the environment: the file to write the new one to.") var newKeyFile: String?

        func run() throws {
            let url = URL(filePath: data)
            let lock: DataFolderLock
            do { lock = try DataFolderLock(folder: url) } catch { throw CommandError(what: "\(error)", hint: "keys are rotated while no server runs") }
            defer { withExtendedLifetime(lock) {} }
            guard newKeyFile != nil || !hasOtherSource else {
                throw CommandError(what: "the root key comes from a credential or the environment, where this command cannot put a new one", hint: "give --new-key-file, and put what is in it in the old one's place")
            }
            if let newKeyFile {
                try rotate(url, KeyRotation(data: url, newKey: newKeyFile), to: "the file \(newKeyFile)")
                print("put it where the old one is now, remove \(newKeyFile), and destroy the old one: until then whoever has it and an old copy of keys.sqlite can read")
            } else {
                try rotate(url, KeyRotation(data: url), to: "the file \(url.appending(path: "root.key").path); the old one was destroyed")
            }
        }

        private var hasOtherSource: Bool {
            let environment = ProcessInfo.processInfo.environment
            let credential = environment["CREDENTIALS_DIRECTORY"].map { FileManager.default.fileExists(atPath: "\($0)/\(RootKeySource.credentialName)") } ?? false
            return environment[RootKeySource.variable] != nil || credential
        }

        private func rotate(_ url: URL, _ rotation: KeyRotation, to place: String) throws {
            let old = hasOtherSource || newKeyFile != nil ? try KeyFolder(data).root : nil
            do {
                switch try rotation.settle(old: old) {
                case .finished:
                    print("an interrupted rotation was finished: the new root key opens everything; it is in \(place)")
                    return
                case .takenBack: print("an interrupted rotation had changed nothing: the old root key opens everything; starting anew")
                case .untouched: break
                }
                let folder = try KeyFolder(data)
                let census = try folder.store.census()
                try folder.store.close()
                try rotation.rotate(from: folder.root)
                print("\(census.underRoot) keys were wrapped anew: the new root key opens everything; it is in \(place)")
            } catch let error as KeyRotation.Stuck {
                throw CommandError(what: error.description)
            } catch let error as SealedFileError {
                throw CommandError(what: "\(error)")
            }
        }
    }
}

/// A data folder's key store and its root key.
private struct KeyFolder {
    let url: URL
    let root: DataKey
    let source: RootKeySource
    let store: KeyStore

    init(_ data: String) throws {
        url = URL(filePath: data)
        let path = url.appending(path: "keys.sqlite").path
        guard FileManager.default.fileExists(atPath: path) else { throw CommandError(what: "\(data) is no data folder", hint: "there is no keys.sqlite in it; give the server's with --data") }
        let file = url.appending(path: "root.key").path
        do {
            guard let found = try RootKey.find(file: file, environment: ProcessInfo.processInfo.environment) else {
                throw CommandError(what: "there is no root key: no credential, no \(RootKeySource.variable), no \(file)", hint: "restore it from where you keep it safe: without it nothing that was recorded can be read")
            }
            (root, source) = (found.key, found.source)
        } catch let error as SealedFileError {
            throw CommandError(what: "\(error)")
        }
        store = try KeyStore(path: path, root: root)
    }

    /// The keys that the audit log names, where there is a log.
    func signers() throws -> [VerifierKey] {
        let catalog = url.appending(path: "catalog.sqlite").path
        return FileManager.default.fileExists(atPath: catalog) ? try AuditReader(path: catalog).keys() : []
    }
}
