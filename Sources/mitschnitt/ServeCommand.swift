import ArgumentParser
import Catalog
import CLinux
import Configuration
import Consent
import Foundation
import Glibc
import Logging
import Recorder
import SealedFile
import ServiceLifecycle
import SystemPackage
import Tap
import UnixSignals
import Web

/// All roles in one process.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Run the server: API, pages, capture and stages in one process.",
        discussion: """
            Every setting has a default, and comes from a flag, from the environment (MITSCHNITT_ and the key in capitals), or from the YAML file
            given with --config; flags win, then the environment. Keys, with their defaults:

              data                      ./data      everything that is kept; made with mode 0700
              pipelines                 ./Pipelines
              address, port             127.0.0.1, 8080 (0: any free port)
              trust-proxy               false       believe X-Forwarded-Proto of a proxy in front
              media-address             127.0.0.1   where RTP is received
              media-ports               any free    for example 20000-20999
              workers                   2           stages at the same time
              batch-window              any hour    when recordings of batches are begun: 22:00-06:00
              batch-max-load            any         highest load average at which one is begun: 1.5
              live                      true        render recordings while they run, so that they are ready at their end
              recording-days            90          retention of recordings
              recording-days-max        365
              retention-classes                     days for outputs of pipelines that name a class: short=14,minutes=30
              controller                            who is responsible, as shown in the notice
              storage                               where it is stored, as shown in the notice
              supervisory-authority                 as shown in notices, messages and receipts
              download-log-days         365         who downloaded what, and who was told of what
              consent-proof-years       3           proof of who consented to what, after a recording's end
              technical-data-days       7           addresses of devices, after a recording's end
              backup-days               30          how long you keep backups: receipts name the date on which the last is gone
              warning-days              7,1         days before a recording's end at which those concerned are told
              public-url                            address of the pages, as written in messages
              smtp-url                              mail server: smtps://HOST, or smtp://HOST (STARTTLS); none: messages are on people's pages only
              smtp-from                             sender's address
              smtp-user, smtp-password-file         or systemd's credential mitschnitt-smtp-password, or MITSCHNITT_SMTP_PASSWORD
              smtp-certificates                     a file with certificates to trust instead of the system's
              metrics-port              none        /metrics on 127.0.0.1 without a token (0: any free port)
              ledger-copy                           a second file for the ledger of erasures, on another disk
              log-level                 info

            The root key comes from systemd's credential mitschnitt-root-key, else from MITSCHNITT_ROOT_KEY (base64 or hexadecimal), else from
            DATA/root.key, which is made at the first start. `mitschnitt keys` checks and rotates it.

            The operator's token is in DATA/operator.token (mode 0600): with it, tokens for moderators are issued (POST /v1/tokens).
            """)

    @Option(help: "A YAML file with settings.") var config: String?
    @Option(help: "Folder for everything that is kept.") var data: String?
    @Option(help: "Folder with the pipelines.") var pipelines: String?
    @Option(help: "Address of API and pages.") var address: String?
    @Option(help: "Port of API and pages; 0: any free one.") var port: Int?
    @Option(help: "Address where RTP is received.") var mediaAddress: String?
    @Option(help: "Ports where RTP is received: FIRST-LAST.") var mediaPorts: String?
    @Option(help: "Stages that run at the same time.") var workers: Int?
    @Option(help: "A second file for the ledger of erasures, on another disk: a restore wants its newest state.") var ledgerCopy: String?
    @Option(help: "trace, debug, info, notice, warning, error.") var logLevel: String?
    @Flag(inversion: .prefixedNo, help: "Render recordings while they run.") var live: Bool?
    @Flag(help: "Believe X-Forwarded-Proto of a proxy in front.") var trustProxy = false
    @Flag(help: "Let the operator move the clock forward: for tests and the demo only.") var movableClock = false

    func run() async throws {
        let settings = try await Settings.read(file: config, flags: [
            "data": data, "pipelines": pipelines, "address": address, "port": port.map(String.init), "media-address": mediaAddress, "media-ports": mediaPorts,
            "workers": workers.map(String.init), "log-level": logLevel, "ledger-copy": ledgerCopy, "trust-proxy": trustProxy ? "true" : nil, "live": live.map(String.init),
        ])
        var recording = settings.recorder
        recording.hasMovableClock = movableClock
        var logger = Logger(label: "mitschnitt") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = settings.logLevel
        if movableClock { logger.warning("the clock can be moved: this is no server for real meetings") }
        let recorder: Recorder
        var lock: DataFolderLock?
        defer { withExtendedLifetime(lock) {} }
        do {
            // A folder that cannot be made is the recorder's to explain.
            try? FileManager.default.createDirectory(at: recording.data, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            if FileManager.default.fileExists(atPath: recording.data.path) { lock = try DataFolderLock(folder: recording.data) }
            recorder = try Recorder(recording, logger: logger)
        } catch let error as RecorderError {
            throw CommandError(what: error.detail, hint: error.hint)
        } catch {
            throw CommandError(what: "the server cannot start: \(error)", hint: "`mitschnitt doctor --data \(recording.data.path)` looks closer")
        }
        // Two files a stream, its socket and its log: a thousand streams are more than what Debian gives to start with.
        if clinux_raise_open_files(65_536) != 0 { logger.warning("the limit of open files could not be raised", metadata: ["error": "\(String(cString: strerror(errno)))"]) }
        let token = try await recorder.provideOperatorToken()
        try await recorder.recover()
        logger.info("operator token", metadata: ["file": "\(token)"])
        Thread.detachNewThread { [logger] in Confinement.note(logger) }
        let address = settings.web.address
        let web = WebServer.service(recorder, options: settings.web, logger: logger) { port in
            FileHandle.standardOutput.write(Data("listening on http://\(address.contains(":") ? "[\(address)]" : address):\(port)\n".utf8))
        }
        var services: [ServiceGroupConfiguration.ServiceConfiguration] = [
            .init(service: web), .init(service: StageWorker(recorder: recorder)), .init(service: Housekeeping(recorder: recorder)), .init(service: GateWatch(recorder: recorder)),
            .init(service: Postman(recorder: recorder)),
        ]
        if let port = settings.metricsPort {
            services.append(.init(service: WebServer.metricsService(recorder, port: port, logger: logger) { [logger] bound in logger.info("metrics", metadata: ["url": "http://127.0.0.1:\(bound)/metrics"]) }))
        }
        let group = ServiceGroup(configuration: .init(
            services: services,
            gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        do {
            try await group.run()
        } catch {
            await recorder.shutDown()
            throw CommandError(what: "the server stopped: \(error)", hint: "is port \(settings.web.port) at \(address) free?")
        }
        await recorder.shutDown()
    }
}

/// What `serve` is set to.
struct Settings {
    var recorder: RecorderConfiguration
    var web: WebOptions
    var logLevel: Logger.Level
    var metricsPort: Int?

    /// Flags win over the environment, which wins over the file.
    static func read(file: String?, flags: [String: String?]) async throws -> Settings {
        let given = flags.compactMapValues { $0 }
        var providers: [any ConfigProvider] = [
            InMemoryProvider(values: Dictionary(uniqueKeysWithValues: given.map { (AbsoluteConfigKey([$0.key]), ConfigValue(.string($0.value), isSecret: false)) })),
            EnvironmentVariablesProvider(environmentVariables: Dictionary(uniqueKeysWithValues: ProcessInfo.processInfo.environment.compactMap { key, value in
                key.hasPrefix("MITSCHNITT_") && ![RootKeySource.variable, MailSettings.variable].contains(key) ? (String(key.dropFirst(11)), value) : nil
            })),
        ]
        if let file {
            do {
                providers.append(try await FileProvider<YAMLSnapshot>(filePath: FilePath(file)))
            } catch {
                throw CommandError(what: "the settings in \(file) cannot be read: \(error)", hint: "keys and values in YAML; `mitschnitt serve --help` lists the keys")
            }
        }
        let config = ConfigReader(providers: providers)
        func text(_ key: ConfigKey) -> String? { config.string(forKey: key) ?? config.int(forKey: key).map(String.init) ?? config.bool(forKey: key).map(String.init) }
        func number(_ key: String, _ standard: Int, _ range: ClosedRange<Int>) throws -> Int {
            guard let given = text(ConfigKey([key])) else { return standard }
            guard let value = Int(given), range.contains(value) else { throw CommandError(what: "\(key) is '\(given)'", hint: "a whole number from \(range.lowerBound) to \(range.upperBound)") }
            return value
        }
        var recorder = RecorderConfiguration(data: URL(filePath: text("data") ?? "data"), pipelines: URL(filePath: text("pipelines") ?? "Pipelines"), stageExecutable: Companion.stage)
        recorder.isLive = text("live") != "false"
        recorder.workers = try number("workers", 2, 1...64)
        if let value = text("batch-window") {
            guard let window = BatchWindow(value) else { throw CommandError(what: "batch-window is '\(value)'", hint: "from and to, in the machine's time zone: 22:00-06:00") }
            recorder.batchWindow = window
        }
        if let value = text("batch-max-load") {
            guard let most = Double(value), most.isFinite, most > 0 else { throw CommandError(what: "batch-max-load is '\(value)'", hint: "a number above 0: 1.5") }
            recorder.batchMaxLoad = most
        }
        recorder.tap.address = text("media-address") ?? "127.0.0.1"
        if let ports = text("media-ports") {
            let parts = ports.split(separator: "-").compactMap { UInt16($0) }
            guard parts.count == 2, parts[0] < parts[1] else { throw CommandError(what: "media-ports is '\(ports)'", hint: "for example 20000-20999") }
            recorder.tap.ports = parts[0]...parts[1]
        }
        recorder.retention.recordingDays = try number("recording-days", 90, 1...3650)
        recorder.retention.recordingDaysMax = try number("recording-days-max", max(365, recorder.retention.recordingDays), recorder.retention.recordingDays...3650)
        recorder.retention.outputClasses = try RetentionClasses.read(text("retention-classes"))
        if let value = text("ledger-copy") { recorder.ledgerCopy = URL(filePath: value) }
        if let value = text("controller") { recorder.retention.controller = value }
        if let value = text("storage") { recorder.retention.storage = value }
        if let value = text("supervisory-authority") { recorder.retention.supervisoryAuthority = value }
        recorder.retention.downloadLogDays = try number("download-log-days", 365, 1...3650)
        recorder.retention.consentProofYears = try number("consent-proof-years", 3, 1...30)
        recorder.retention.technicalDataDays = try number("technical-data-days", 7, 0...365)
        recorder.retention.backupDays = try number("backup-days", 30, 0...3650)
        if let value = text("warning-days") {
            let days = value.split(separator: ",").map { Int($0.trimmingCharacters(in: .whitespaces)) }
            guard days.count <= 10, days.allSatisfy({ $0.map { (1...365).contains($0) } ?? false }) else {
                throw CommandError(what: "warning-days is '\(value)'", hint: "up to ten numbers of days between commas, for example 7,1")
            }
            recorder.retention.warningDays = days.compactMap(\.self)
        }
        recorder.publicURL = text("public-url")
        recorder.mail = try MailSettings.read({ text(ConfigKey([$0])) }, environment: ProcessInfo.processInfo.environment)
        var web = WebOptions()
        web.address = text("address") ?? "127.0.0.1"
        web.port = try number("port", 8080, 0...65_535)
        web.trustsProxy = text("trust-proxy") == "true"
        let level = text("log-level") ?? "info"
        guard let logLevel = Logger.Level(rawValue: level) else { throw CommandError(what: "log-level is '\(level)'", hint: "one of: " + Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")) }
        return Settings(recorder: recorder, web: web, logLevel: logLevel, metricsPort: text("metrics-port") == nil ? nil : try number("metrics-port", 0, 0...65_535))
    }
}
