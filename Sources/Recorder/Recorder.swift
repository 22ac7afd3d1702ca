import Catalog
import Consent
import Foundation
import Glibc
import GRDB
import JobQueue
import Logging
import Media
import Renditions
import SealedFile
import Synchronization
import Tap

/// The product's use cases on one catalog, one key store and one data folder.
///
/// What happens while the program runs is a few services: ``StageWorker`` runs the queue, ``Housekeeping`` watches consents and expiry. Live
/// captures are held in memory; after a restart they listen at their old ports again, with every gate closed until consent is read.
public final class Recorder: RecorderAPI {
    public let configuration: RecorderConfiguration
    public let clock: ServiceClock
    package let catalog: Catalog
    var jobs: SQLiteJobStore { catalog.jobs }
    package let keys: KeyStore
    let root: DataKey
    let ledger: ErasureLedger
    /// Signs the audit log.
    let signer: NoteSigner
    let logger: Logger
    let live = Mutex<[RecordingID: CaptureSession]>([:])
    /// How many watch what is made.
    let watchers = Mutex(0)
    let costsKept = Mutex<(at: ContinuousClock.Instant, costs: StageCosts)?>(nil)
    let jobsPrunedAt = Mutex(WallTime(nanoseconds: 0))
    /// Whether something that was erased may still be in the catalog's write-ahead log: at a start nobody knows.
    let owesCheckpoint = Mutex(true)
    let keptTime = Mutex<WallTime?>(nil)
    /// When it was last looked for names that nothing needs; nil: it is due.
    let identitiesLookedAt = Mutex<WallTime?>(nil)
    let gates = LiveGates()
    let liveRenditions = LiveRenditions()
    let pipelines: [String: Pipeline]
    /// Where others add figures for the metrics page.
    public let metricRegistry = MetricRegistry()
    let sweeps = Mutex(SweepFigures())
    let stageFigures = StageFigures()

    /// Opens or makes everything under the data folder. Blocks; throws an error that says what to do.
    ///
    /// A `root` key that is given is used instead of the file beside the data, and given `pipelines` instead of those in the folder.
    public convenience init(_ configuration: RecorderConfiguration, root given: DataKey? = nil, pipelines: [String: Pipeline]? = nil, logger: Logger) throws {
        try self.init(configuration, root: given, pipelines: pipelines, isRestoring: false, logger: logger)
    }

    /// `isRestoring`: the data folder was just copied from a backup, and erasures are replayed before anything else.
    init(_ configuration: RecorderConfiguration, root given: DataKey? = nil, pipelines: [String: Pipeline]? = nil, isRestoring: Bool, logger: Logger) throws {
        guard isRestoring || !FileManager.default.fileExists(atPath: configuration.data.appending(path: Restore.unfinished).path) else {
            throw RecorderError(.conflict, "the restore to \(configuration.data.path) was not finished: what was erased may still be there", hint: "run the same `mitschnitt restore` again: it begins anew")
        }
        self.configuration = configuration
        self.logger = logger
        clock = configuration.clock ?? ServiceClock(isMovable: configuration.hasMovableClock)
        let data = configuration.data
        for folder in [data, configuration.temporary, data.appending(path: "recordings")] {
            do {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            } catch {
                throw RecorderError(.storage, "the folder \(folder.path) cannot be made: \(String(cString: strerror(errno)))", hint: "check its rights and the free space, or give another with --data")
            }
        }
        root = try given ?? Self.rootKey(data)
        catalog = try Catalog(path: data.appending(path: "catalog.sqlite").path)
        if let latest = try catalog.latestTime() { clock.resume(from: latest) }
        keys = try KeyStore(path: data.appending(path: "keys.sqlite").path, root: root)
        do {
            try catalog.requireWritable()
            try keys.requireWritable()
        } catch {
            throw RecorderError(.storage, "the databases in \(data.path) cannot be written: \(error)", hint: "check their rights, the disk and its free space, and start again")
        }
        ledger = try ErasureLedger(path: data.appending(path: ErasureLedger.fileName).path, copy: configuration.ledgerCopy?.path)
        signer = try keys.noteSigner()
        self.pipelines = try pipelines ?? Self.readPipelines(configuration.pipelines)
    }

    /// The root key from a credential, the environment or the file beside the data; a new file only where nothing was ever sealed.
    private static func rootKey(_ data: URL) throws -> DataKey {
        // A rotation that was killed is ended first, one way or the other.
        _ = try KeyRotation(data: data).settle()
        let path = data.appending(path: "root.key").path
        defer { RootKey.forgetEnvironment() }
        if let found = try RootKey.find(file: path, environment: ProcessInfo.processInfo.environment) { return found.key }
        let isUsed = FileManager.default.fileExists(atPath: data.appending(path: "keys.sqlite").path)
        return isUsed ? try RootKey.load(path: path) : try RootKey.create(path: path)
    }

    private static func readPipelines(_ folder: URL) throws -> [String: Pipeline] {
        let files: [URL]
        do {
            files = try FileManager.default.contentsOfDirectory(at: folder.resolvingSymlinksInPath(), includingPropertiesForKeys: nil).filter { $0.pathExtension == "yaml" }
        } catch {
            throw RecorderError(.invalid, "the folder with pipelines, \(folder.path), cannot be read", hint: "give it with --pipelines")
        }
        var pipelines: [String: Pipeline] = [:]
        for file in files {
            let text = try String(contentsOf: file, encoding: .utf8)
            do {
                pipelines[file.deletingPathExtension().lastPathComponent] = try Pipeline(parsing: text)
            } catch {
                throw RecorderError(.invalid, error.explained(file: file.path, text: text), hint: "mitschnitt pipeline check \(file.path)")
            }
        }
        return pipelines
    }

    /// The capture of a recording that runs.
    package func session(of recording: RecordingID) -> CaptureSession? { live.withLock { $0[recording] } }

    var capturing: [RecordingID] { live.withLock { Array($0.keys) } }

    func pipeline(named name: String) throws(RecorderError) -> Pipeline {
        guard let pipeline = pipelines[name] else {
            throw RecorderError(.invalid, "there is no pipeline '\(name)'", hint: "one of: " + pipelines.keys.sorted().joined(separator: ", "), pointer: "/pipeline")
        }
        return pipeline
    }

    /// Makes the operator's token where there is none, in a file that only the owner can read; its path is returned.
    public func provideOperatorToken() async throws -> String {
        let file = configuration.data.appending(path: "operator.token")
        guard !FileManager.default.fileExists(atPath: file.path) else { return file.path }
        let token = AccessToken.make()
        let now = clock.now
        try await catalog.write { db in
            try AccessTokenRecord(hash: AccessToken.hash(token), role: Principal.Role.operator.rawValue, subject: "operator", createdAt: now.nanoseconds,
                                  expiresAt: (now + .seconds(3650 * 86_400)).nanoseconds).insert(db)
        }
        guard FileManager.default.createFile(atPath: file.path, contents: Data((token + "\n").utf8), attributes: [.posixPermissions: 0o600]) else {
            throw RecorderError(.storage, "\(file.path) cannot be written", hint: "check the folder's rights and free space")
        }
        return file.path
    }

    /// Ends live captures so that nothing is lost, leaving their recordings open for the next start.
    public func shutDown() async {
        let sessions = live.withLock { live in
            defer { live = [:] }
            return live
        }
        for recording in liveRenditions.recordings { await dropLive(recording) }
        for session in sessions.values { _ = try? await BlockingWork.run { session.stop() } }  // stop() does not throw
        do { try await checkpointAudit() } catch { logger.warning("the audit log was not signed at the end", metadata: ["error": "\(error)"]) }
        do { try catalog.close() } catch { logger.warning("catalog not closed", metadata: ["error": "\(error)"]) }
    }
}
