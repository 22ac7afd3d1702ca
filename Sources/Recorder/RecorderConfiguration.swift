import Consent
import Foundation
import JobQueue
import Mail
import Renditions
import Tap

/// How a recorder is set up; every key has a default that works on one machine with nothing else.
public struct RecorderConfiguration: Sendable {
    /// Folder for everything that is kept; made with mode 0700.
    public var data: URL
    /// Folder with the pipeline files.
    public var pipelines: URL
    /// Path of `mitschnitt-stage`.
    public var stageExecutable: String
    /// Stages that run at the same time.
    public var workers = 2
    /// Leases, limits and retries of jobs; slots and capacity follow from `workers` and the machine.
    public var jobs = SupervisorOptions()
    /// Whether recordings are rendered while they run, so that they are ready at their end.
    public var isLive = false
    public var tap = TapOptions()
    /// When recordings of batches are begun; nil: at any hour.
    public var batchWindow: BatchWindow?
    /// Highest load average of the last minute at which one is begun; nil: at any.
    public var batchMaxLoad: Double?
    public var retention = RetentionPolicy()
    /// The mail server, and who its messages are from; without one they are shown on people's own pages only.
    public var mail: (relay: SMTPRelay, from: MailAddress)?
    /// Where people reach their page, as written in messages.
    public var publicURL: String?
    /// A second place for the ledger of erasures, on another disk: a restore without the newest one would bring back what was erased.
    public var ledgerCopy: URL?
    /// Whether the clock may be moved forward over the API: tests and the demo.
    public var hasMovableClock = false
    /// The service's clock where it is not the machine's: tests, which keep it over a restart.
    public var clock: ServiceClock?
    /// Carries stages out instead of child processes: tests.
    public var stageSubstitute: StageRunner.Substitute?

    public init(data: URL, pipelines: URL, stageExecutable: String) {
        self.data = data
        self.pipelines = pipelines
        self.stageExecutable = stageExecutable
    }

    var temporary: URL { data.appending(path: "tmp") }
    func folder(of recording: String) -> URL { data.appending(path: "recordings/\(recording)") }
    func trackFolder(_ recording: String, _ track: String) -> URL { folder(of: recording).appending(path: "tracks/\(track)") }
    func artifact(_ recording: String, _ id: String) -> URL { folder(of: recording).appending(path: "artifacts/\(id).sealed") }
}
