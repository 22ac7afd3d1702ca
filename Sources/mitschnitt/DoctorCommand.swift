import ArgumentParser
import Catalog
import Foundation
import Glibc
import SealedFile
import SRTP

/// Looks at the machine and the data folder, and says what to do.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "doctor", abstract: "Check libraries, codecs, rights, durability settings and free space; say what to do.")

    @Option(help: "The server's data folder.") var data = "data"

    func run() async throws {
        var findings: [Finding] = []
        let stage = stage()
        findings.append(stage)
        if stage.isGood { findings += Confinement.findings() }
        findings.append(Finding(isGood: SRTPLibrary.isReady, what: "SRTP", figure: SRTPLibrary.version, hint: "apt-get install --reinstall libsrtp2-1 libnss3"))
        findings.append(font())
        findings += folder(URL(filePath: data))
        findings.append(receiveBuffer())
        findings.append(memory())
        findings.append(clock())
        for finding in findings { Terminal.shared.check(finding.isGood, finding.what, finding.figure + (finding.isGood ? "" : "\n       → \(finding.hint)")) }
        if findings.contains(where: { !$0.isGood }) { throw ExitCode(1) }
    }

    struct Finding {
        var isGood: Bool
        var what: String
        var figure: String
        var hint: String
    }

    private func stage() -> Finding {
        let path = Companion.stage
        guard access(path, X_OK) == 0 else { return Finding(isGood: false, what: "mitschnitt-stage", figure: "not at \(path)", hint: "make build, and keep both programs in one folder") }
        do {
            let child = try Child(path, ["--check"])
            var lines: [String] = []
            while let line = child.readLine() { lines.append(line) }
            return Finding(isGood: child.wait() == 0, what: "libraries and codecs", figure: lines.joined(separator: "; "),
                           hint: "apt-get install ffmpeg libavcodec59 libavformat59 libavfilter8 libopus0 libebur128-1")
        } catch {
            return Finding(isGood: false, what: "mitschnitt-stage", figure: "\(error)", hint: "make build")
        }
    }

    private func font() -> Finding {
        let path = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
        return Finding(isGood: access(path, R_OK) == 0, what: "font of the name labels", figure: path, hint: "apt-get install fonts-dejavu-core")
    }

    private func folder(_ folder: URL) -> [Finding] {
        var findings: [Finding] = []
        let exists = FileManager.default.fileExists(atPath: folder.path)
        let place = exists ? folder.path : folder.deletingLastPathComponent().path
        findings.append(Finding(isGood: access(place, W_OK) == 0, what: "the data folder can be written", figure: exists ? place : "\(folder.path) (not made yet)", hint: "chown it to the user who runs the server"))
        var space = statvfs()
        if statvfs(place, &space) == 0 {
            let free = Double(space.f_bavail) * Double(space.f_frsize) / 1e9
            findings.append(Finding(isGood: free >= 5, what: "free space", figure: String(format: "%.1f GB", free), hint: "an hour of six pictures takes about 1 GB while it is processed"))
        }
        let key = folder.appending(path: "root.key").path
        guard exists, FileManager.default.fileExists(atPath: folder.appending(path: "catalog.sqlite").path) else { return findings }
        do {
            guard let found = try RootKey.find(file: key, environment: ProcessInfo.processInfo.environment) else { throw CommandError(what: "there is none") }
            findings.append(Finding(isGood: true, what: "root key", figure: "\(found.source)", hint: ""))
        } catch {
            findings.append(Finding(isGood: false, what: "root key", figure: "\(error)", hint: "without it nothing that was recorded can be read"))
        }
        do {
            let settings = try Catalog(path: folder.appending(path: "catalog.sqlite").path).durability()
            findings.append(Finding(isGood: settings["synchronous"] == "2", what: "durability of the catalog", figure: settings.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " "), hint: "report this: it is set at every start"))
        } catch {
            findings.append(Finding(isGood: false, what: "catalog", figure: "\(error)", hint: "restore it from the backup"))
        }
        return findings
    }

    private func receiveBuffer() -> Finding {
        let text = (try? String(contentsOfFile: "/proc/sys/net/core/rmem_max", encoding: .utf8)) ?? "0"  // always there on Linux
        let bytes = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        return Finding(isGood: bytes >= 4 << 20 || geteuid() == 0, what: "receive buffer for bursts of packets", figure: "net.core.rmem_max = \(bytes)", hint: "sysctl -w net.core.rmem_max=8388608")
    }

    private func memory() -> Finding {
        _ = DataKey.random()
        return Finding(isGood: KeyMemory.isLocked, what: "keys stay in memory", figure: KeyMemory.isLocked ? "locked, never swapped out" : "they could be swapped out",
                       hint: "raise the limit of locked memory (LimitMEMLOCK= in the unit, ulimit -l) to 256 KiB, or encrypt the swap space")
    }

    private func clock() -> Finding {
        Finding(isGood: time(nil) > 1_767_225_600, what: "the clock", figure: Date().formatted(.iso8601), hint: "set it: consents and expiry go by it")
    }
}
