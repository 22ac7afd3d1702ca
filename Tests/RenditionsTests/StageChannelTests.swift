import CLinux
import Foundation
import Glibc
import Media
import Renditions
import SealedFile
import TestSupport
import Testing

@Suite("Stages in child processes")
struct StageChannelTests {
    private func order(_ descriptors: Int) -> StageOrder {
        StageOrder(stage: .waveform, parameters: StageParameters(), inputs: [StageInput(descriptors: Array(0..<descriptors), key: .random(), content: .rendition(
            context: SealedContext(recording: RecordingID(rawValue: "r")!, object: "rendition:x", modality: "mix", part: "s"), startWall: WallTime(seconds: 1)))], outputs: [], span: nil)
    }

    @Test("an order arrives with all its descriptors, however many batches they take", arguments: [0, 1, 200, 450])
    func descriptors(count: Int) throws {
        var pair: [Int32] = [-1, -1]
        #expect(clinux_socket_pair(&pair) == 0)
        defer { for socket in pair { close(socket) } }
        let sent = (0..<count).map { _ in open("/dev/null", O_RDONLY) }
        defer { for descriptor in sent { close(descriptor) } }
        let (parent, child) = (StageChannel(socket: pair[0]), StageChannel(socket: pair[1]))
        let asked = order(count)
        let thread = Thread { try? parent.send(asked, descriptors: sent) }
        thread.start()
        let received = try #require(try child.receiveOrder())
        #expect(received.descriptors.count == count)
        #expect(received.order.inputs[0].descriptors == Array(0..<count))
        #expect(received.order.inputs[0].key.withBytes { Array($0) } == asked.inputs[0].key.withBytes { Array($0) })
        for descriptor in received.descriptors { #expect(close(descriptor) == 0) }
    }

    @Test("a frame that is too long, or is no message, is an error and not a crash")
    func garbage() throws {
        for bytes in [[0xFF, 0xFF, 0xFF, 0xFF], [0, 0, 0, 3] + Array("{}}".utf8)] as [[UInt8]] {
            var pair: [Int32] = [-1, -1]
            #expect(clinux_socket_pair(&pair) == 0)
            defer { for socket in pair { close(socket) } }
            #expect(write(pair[0], bytes, bytes.count) == bytes.count)
            #expect(throws: StageChannelError.self) { try StageChannel(socket: pair[1]).receiveMessage() }
        }
    }

    @Test("a stage that dies, or is no program at all, fails its job and nothing else")
    func dies() async throws {
        await #expect { try await StageRunner(executable: "/bin/false").run(order(0), descriptors: []) { _ in } } throws: { error in
            if case StageRunError.died = error { true } else { false }
        }
        await #expect { try await StageRunner(executable: "/nowhere/stage").run(order(0), descriptors: []) { _ in } } throws: { error in
            if case StageRunError.notStarted = error { true } else { false }
        }
    }

    @Test("a real stage says what is wrong with an order that makes no sense")
    func nonsense() async throws {
        let runner = StageRunner(executable: Checkout.program("mitschnitt-stage"))
        await #expect { try await runner.run(order(0), descriptors: []) { _ in } } throws: { error in
            if case StageRunError.failed(let failure) = error { failure.code == .protocolViolation } else { false }
        }
    }

    @Test("cancelling ends a stage that hangs")
    func cancel() async throws {
        let task = Task { try await StageRunner(executable: "/bin/cat").run(order(0), descriptors: []) { _ in } }
        try await Task.sleep(for: .milliseconds(200))
        task.cancel()
        await #expect(throws: (any Error).self) { try await task.value }
    }
}
