@testable import Catalog
import Foundation
import GRDB
import Media
import SealedFile
import TestSupport
import Testing

@Suite("Rotation of the root key")
struct KeyRotationTests {
    let folder: TemporaryFolder
    let old: DataKey
    let track = TrackID.random()
    let media: [UInt8]
    let oldWrapped: [Data]

    private var store: String { folder.path + "/keys.sqlite" }
    private var rootPath: String { folder.path + "/root.key" }

    init() async throws {
        folder = try TemporaryFolder()
        old = try RootKey.create(path: folder.path + "/root.key")
        let store = try KeyStore(path: folder.path + "/keys.sqlite", root: old)
        let recording = RecordingID.random()
        try await store.create(recording: recording, tracks: [track], secrets: [track: Data("a secret".utf8)], now: WallTime(seconds: 1))
        _ = try await store.create(rendition: .random(), of: recording, now: WallTime(seconds: 1))
        _ = try store.noteSigner()
        media = try await store.key(KeyStore.track(track)).withBytes { Array($0) }
        oldWrapped = try await DatabaseQueue(path: folder.path + "/keys.sqlite").read {
            try Data.fetchAll($0, sql: "SELECT wrapped FROM wrapped_key WHERE parent IS NULL UNION ALL SELECT wrapped FROM signing_key")
        }
    }

    private struct Killed: Error {}

    private func opensEverything(_ key: DataKey) async throws -> Bool {
        let store = try KeyStore(path: store, root: key)
        guard try store.unopened().isEmpty else { return false }
        let secret = try await store.secret(of: track)
        return try await store.key(KeyStore.track(track)).withBytes { Array($0) } == media && secret == Data("a secret".utf8)
    }

    @Test("the new root opens everything, the keys of media are the same; old wrapped bytes and the old root are nowhere")
    func rotated() async throws {
        let bytes = old.withBytes { Array($0) }
        #expect(try oldWrapped.count == 2 && oldWrapped.allSatisfy { try folder.contains(Array($0)) })
        let signer = try KeyStore(path: store, root: old).noteSigner().verifier
        try KeyRotation(data: folder.url).rotate(from: old)
        let new = try RootKey.load(path: rootPath)
        #expect(try await opensEverything(new))
        #expect(try await !opensEverything(old))
        #expect(try KeyStore(path: store, root: new).noteSigner().verifier == signer)
        for wrapped in oldWrapped { #expect(try !folder.contains(Array(wrapped))) }
        #expect(try !folder.contains(bytes) && folder.contains(new.withBytes { Array($0) }))
        #expect(try KeyRotation(data: folder.url).settle() == .untouched)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["keys.sqlite", "root.key"])
    }

    @Test("killed after any step, one of the two roots opens everything, and what was begun is finished or taken back", arguments: KeyRotation.Step.allCases)
    func killed(after last: KeyRotation.Step) async throws {
        let rotation = KeyRotation(data: folder.url)
        #expect(throws: Killed.self) { try rotation.rotate(from: old) { if $0 == last { throw Killed() } } }
        let candidates = [rootPath, rootPath + ".new"].filter { FileManager.default.fileExists(atPath: $0) }
        var opening = 0
        for path in candidates { opening += try await opensEverything(RootKey.load(path: path)) ? 1 : 0 }
        #expect(opening == 1)
        let expected: KeyRotation.Outcome = last == .newKeyWritten ? .takenBack : last == .renamed ? .untouched : .finished
        #expect(try rotation.settle() == expected)
        #expect(try await opensEverything(RootKey.load(path: rootPath)))
        #expect(!rotation.isBegun)
        let isOld = try RootKey.load(path: rootPath).withBytes { Array($0) } == old.withBytes { Array($0) }
        #expect(isOld == (last == .newKeyWritten))
        if !isOld { #expect(try !folder.contains(old.withBytes { Array($0) }) && !folder.contains(Array(oldWrapped[0]))) }
    }

    @Test("killed while the new key was being written: it is taken back")
    func cutKey() async throws {
        #expect(FileManager.default.createFile(atPath: rootPath + ".new", contents: Data([1, 2, 3]), attributes: [.posixPermissions: 0o600]))
        #expect(try KeyRotation(data: folder.url).settle() == .takenBack)
        #expect(try await opensEverything(old))
    }

    @Test("where a key does not open nothing is changed, and it is named")
    func damaged() async throws {
        try await DatabaseQueue(path: store).write { try $0.execute(sql: "UPDATE wrapped_key SET wrapped = zeroblob(60) WHERE id LIKE 'track:%'") }
        #expect(try KeyStore(path: store, root: old).unopened() == ["secret of \(KeyStore.track(track))", KeyStore.track(track)])
        #expect { try KeyRotation(data: folder.url).rotate(from: old) } throws: { "\($0)".contains(KeyStore.track(track)) || "\($0)".contains("secret") }
        #expect(!KeyRotation(data: folder.url).isBegun)
        #expect(try KeyStore(path: store, root: old).census().isOpen)
    }

    @Test("with neither root key fitting nothing is touched")
    func neither() async throws {
        let other = try RootKey.create(path: rootPath + ".new")
        try RootKey.overwrite(path: rootPath)
        #expect(throws: KeyRotation.Stuck.self) { try KeyRotation(data: folder.url).settle() }
        #expect(try RootKey.load(path: rootPath + ".new").withBytes { Array($0) } == other.withBytes { Array($0) })
        #expect(try await opensEverything(old))
    }

    @Test("a root key from elsewhere: the new one goes to a file of its own, and again if killed")
    func elsewhere() async throws {
        try FileManager.default.removeItem(atPath: rootPath)
        let path = folder.path + "/next.key"
        let rotation = KeyRotation(data: folder.url, newKey: path)
        #expect(throws: Killed.self) { try rotation.rotate(from: old) { if $0 == .rewrapped { throw Killed() } } }
        #expect(try rotation.settle(old: old) == .finished)
        #expect(try await opensEverything(RootKey.load(path: path)))
        #expect(try !folder.contains(Array(oldWrapped[0])))
    }

    @Test("the data folder is one process's; when it lets go the next may have it")
    func lock() throws {
        var first: DataFolderLock? = try DataFolderLock(folder: folder.url)
        #expect(throws: DataFolderLock.InUse.self) { try DataFolderLock(folder: folder.url) }
        withExtendedLifetime(first) {}
        first = nil
        _ = try DataFolderLock(folder: folder.url)
        #expect(throws: DataFolderLock.Unusable.self) { try DataFolderLock(folder: folder.url.appending(path: "nowhere")) }
    }

    @Test("the census counts by kind")
    func census() throws {
        let census = try KeyStore(path: store, root: old).census()
        #expect([census.recordings, census.tracks, census.renditions, census.secrets, census.signing, census.opened] == [1, 1, 1, 1, 1, 2] as [Int])
        #expect(try KeyStore(path: store, root: .random()).census().opened == 0)
    }
}
