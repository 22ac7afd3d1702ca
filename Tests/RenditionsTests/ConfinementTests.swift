import Foundation
import Glibc
import Media
@testable import Renditions
import SealedFile
import Synchronization
import TestSupport
import Testing

/// Real children, confined like every stage, that do what none may do.
@Suite("Stages that misbehave")
struct ConfinementTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private var order: StageOrder { StageOrder(stage: .thumbnail, parameters: StageParameters(), inputs: [], outputs: [], span: nil) }

    /// Runs the stage that does `what`; why it gave no result.
    private func death(_ what: String, _ change: (inout StageLimits) -> Void = { _ in }) async throws -> String {
        let link = folder.path + "/" + what
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: Checkout.program("mitschnitt-badstage"))
        var runner = StageRunner(executable: link)
        var limits = StageLimits()
        change(&limits)
        runner.limits = limits
        do {
            _ = try await runner.run(order, descriptors: []) { _ in }
            return "it gave a result"
        } catch StageRunError.died(let why) {
            return why
        }
    }

    @Test("what a stage may not ask the system for ends it, and the job says what it was",
          arguments: [("open", "openat"), ("socket", "socket"), ("fork", "clone (a process)"), ("exec", "execve"), ("signal", "kill"), ("trace", "ptrace"), ("code", "mmap (code)")])
    func forbidden(what: String, call: String) async throws {
        #expect(try await death(what) == "it asked the system for what a stage may not, and was stopped\na stage may not ask the system for \(call)")
    }

    @Test("a memory error fails its own run, with a reason in words")
    func segfault() async throws {
        #expect(try await death("segfault") == "it touched memory that is not there (a defect in a codec, or a file made to find one)")
    }

    @Test("memory beyond the limit is not had, and the machine has it still")
    func balloon() async throws {
        #expect(try await death("balloon") { $0.memoryBytes = 1 << 30 }.hasPrefix("it stopped itself at an impossible state, or had no memory left of its 1024 MiB"))
    }

    @Test("processor time beyond the limit is not had")
    func spin() async throws {
        #expect(try await death("spin") { $0.cpuSeconds = 1 } == "it took more than its 1 s of processor time")
    }

    @Test("a stage that hangs is killed when its run is given up, and leaves no process")
    func hang() async throws {
        let link = folder.path + "/hang"
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: Checkout.program("mitschnitt-badstage"))
        let process = Mutex<pid_t>(0)
        let (started, begin) = AsyncStream.makeStream(of: pid_t.self)
        let order = order
        let task = Task { try await StageRunner(executable: link).run(order, descriptors: [], started: { begin.yield($0) }) { _ in } }
        for await id in started {
            process.withLock { $0 = id }
            break
        }
        task.cancel()
        await #expect(throws: (any Error).self) { try await task.value }
        #expect(kill(process.withLock { $0 }, 0) == -1 && errno == ESRCH)
    }

    @Test("of what a stage prints the end is kept, in printable lines without what looks like a key; a chatty one is not kept waiting")
    func chatter() async throws {
        let lines = (19_996..<20_000).map { "line \($0) of what a library prints" } + ["the key is … ?[2J"]
        #expect(try await death("chatter") == "it ended with status 1\n" + lines.joined(separator: "\n"))
    }

    @Test("a stage has its standard streams and two lent files, and nothing of its parent's")
    func descriptors() async throws {
        let extra = (0..<20).map { _ in open("/dev/null", O_RDONLY | O_CLOEXEC) }
        defer { for descriptor in extra { close(descriptor) } }
        #expect(try await death("descriptors") == "it ended with status 1\n5 are open")
    }

    /// A finished file of sound, as the real stage reads it.
    private func wav(_ seconds: Int) -> [UInt8] {
        func le<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
        let bytes = seconds * 16_000
        return Array("RIFF".utf8) + le(UInt32(bytes + 36)) + Array("WAVEfmt ".utf8) + le(UInt32(16)) + le(UInt16(1)) + le(UInt16(1)) + le(UInt32(8_000)) + le(UInt32(16_000))
            + le(UInt16(2)) + le(UInt16(16)) + Array("data".utf8) + le(UInt32(bytes)) + [UInt8](repeating: 0, count: bytes)
    }

    /// The real stage on five seconds of sound.
    private func remux(_ limits: StageLimits?) async throws -> StageResult {
        let (source, target) = (folder.path + "/source", folder.path + "/target")
        try Data(wav(5)).write(to: URL(filePath: source))
        let descriptors = [open(source, O_RDONLY | O_CLOEXEC), open(target, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)]
        defer { for descriptor in descriptors { close(descriptor) } }
        let key = DataKey.random()
        let order = StageOrder(stage: .depacketize, parameters: StageParameters(), inputs: [StageInput(descriptors: [0], key: key, content: .file(container: .wav, kind: .audio, start: WallTime(seconds: 1)))],
                               outputs: [StageOutput(descriptor: 1, key: key, context: SealedContext(recording: .random(), object: "track:a", modality: "audio", part: "matroska"), container: .matroska)], span: nil)
        var runner = StageRunner(executable: Checkout.program("mitschnitt-stage"))
        runner.limits = limits
        return try await runner.run(order, descriptors: descriptors) { _ in }
    }

    @Test("the real stage works under the limits of its order, and says so where its file would become larger than they allow")
    func fileSize() async throws {
        #expect(try await remux(nil).outputs.first?.verified?.packets ?? 0 > 0)
        var limits = StageLimits()
        limits.fileBytes = 20_000
        await #expect { try await remux(limits) } throws: { error in
            if case StageRunError.failed(let failure) = error { failure.code == .limitExceeded } else { false }
        }
    }

    @Test("limits grow with what there is to do, and never beyond the most")
    func limits() throws {
        func limits(_ stage: StageKind, hours: Int64, inputBytes: UInt64 = 0) -> StageLimits {
            var order = order
            (order.stage, order.span) = (stage, WallSpan(start: WallTime(seconds: 0), end: WallTime(seconds: Double(hours * 3_600))))
            return StageLimits(for: order, inputBytes: inputBytes)
        }
        #expect(limits(.thumbnail, hours: 1).fileBytes == 64 << 20)
        #expect(limits(.depacketize, hours: 1, inputBytes: 1 << 30).fileBytes == 64 << 20 + 2 << 30)
        #expect(limits(.compose, hours: 1).fileBytes > 20 << 30)
        #expect(limits(.mix, hours: 24).wallSeconds == StageLimits().wallSeconds)
        #expect(limits(.mix, hours: 1).wallSeconds < limits(.mix, hours: 2).wallSeconds)
        let some = limits(.compose, hours: 1)
        #expect(try StageLimits(arguments: some.arguments).arguments == some.arguments)
        #expect(throws: StageConfinement.Refused.self) { try StageLimits(arguments: ["--memory"]) }
        #expect(throws: StageConfinement.Refused.self) { try StageLimits(arguments: ["--network", "1"]) }
    }
}
