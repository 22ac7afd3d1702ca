import CLinux
import Foundation
import Glibc

/// The control socket between a worker and its `mitschnitt-stage` child.
///
/// Frames are a big-endian `UInt32` length and that many bytes of JSON. Descriptors come first, attached to single bytes
/// (SCM_RIGHTS), their total announced by one frame before them, the ``StageOrder`` after them. Both ends are trusted code, but the
/// child handles untrusted media, so what it says is bounded and decoded, never believed.
/// All calls block: use them on a thread of their own.
public struct StageChannel: Sendable {
    /// A frame longer than this is a protocol violation. An order for 200 tracks takes about 200 KiB.
    public static let frameBytesMax = 16 << 20
    /// Descriptors in one order: a packet log of four hours has about 2,900 segments.
    public static let descriptorsMax = 16_384

    public let socket: Int32

    public init(socket: Int32) { self.socket = socket }

    /// Sends an order, or what follows one, with its descriptors (which stay open here).
    public func send(_ order: some Encodable, descriptors: [Int32]) throws(StageChannelError) {
        guard descriptors.count <= Self.descriptorsMax else { throw .tooLarge("\(descriptors.count) descriptors") }
        try sendFrame(JSONOutput.bytes(descriptors.count))
        var rest = descriptors[...]
        while !rest.isEmpty {
            let batch = Array(rest.prefix(Int(CLINUX_DESCRIPTORS_MAX)))
            guard clinux_send_descriptors(socket, batch, batch.count) == 0 else { throw .system("sendmsg", errno) }
            rest = rest.dropFirst(batch.count)
        }
        try sendFrame(JSONOutput.bytes(order))
    }

    /// Waits for an order. The caller owns the descriptors. Nil when the parent closed the socket.
    public func receiveOrder() throws(StageChannelError) -> (order: StageOrder, descriptors: [Int32])? { try receiveWithDescriptors() }
    public func receiveLiveOrder() throws(StageChannelError) -> (order: LiveOrder, descriptors: [Int32])? { try receiveWithDescriptors() }
    public func receiveFeed() throws(StageChannelError) -> (feed: LiveFeed, descriptors: [Int32])? { try receiveWithDescriptors() }

    /// Whether a receive would not wait, be it that the other side is gone.
    public var hasInput: Bool {
        var waiting = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        return poll(&waiting, 1, 0) > 0
    }

    private func receiveWithDescriptors<Body: Decodable>() throws(StageChannelError) -> (Body, [Int32])? {
        guard let announced: Int = try receive() else { return nil }
        guard (0...Self.descriptorsMax).contains(announced) else { throw .tooLarge("\(announced) descriptors announced") }
        var descriptors: [Int32] = []
        var batch = [Int32](repeating: -1, count: Int(CLINUX_DESCRIPTORS_MAX))
        while descriptors.count < announced {
            let count = clinux_receive_descriptors(socket, &batch)
            guard count != -2 else { return nil }
            guard count > 0 else { throw .system("recvmsg", errno) }
            descriptors += batch.prefix(count)
        }
        guard let body: Body = try receive() else { return nil }
        return (body, descriptors)
    }

    public func send(_ message: StageMessage) throws(StageChannelError) { try sendFrame(JSONOutput.bytes(message)) }
    public func send(_ message: LiveMessage) throws(StageChannelError) { try sendFrame(JSONOutput.bytes(message)) }

    /// Waits for the next message; nil when the child is gone.
    public func receiveMessage() throws(StageChannelError) -> StageMessage? { try receive() }

    private func sendFrame(_ body: [UInt8]) throws(StageChannelError) {
        guard body.count <= Self.frameBytesMax else { throw .tooLarge("a frame of \(body.count) bytes") }
        let frame = withUnsafeBytes(of: UInt32(body.count).bigEndian, Array.init) + body
        guard clinux_send_all(socket, frame, frame.count) == 0 else { throw .system("send", errno) }
    }

    func receive<Value: Decodable>() throws(StageChannelError) -> Value? {
        guard let head = try receiveBytes(4) else { return nil }
        let length = head.reduce(0) { $0 << 8 | Int($1) }
        guard length <= Self.frameBytesMax else { throw .tooLarge("a frame of \(length) bytes") }
        guard let body = try receiveBytes(length) else { return nil }
        do {
            return try JSONDecoder().decode(Value.self, from: Data(body))
        } catch {
            throw .malformed("\(Value.self): \(error)")
        }
    }

    /// Nil at the end of the stream, in the middle of a frame too: the other side died.
    private func receiveBytes(_ count: Int) throws(StageChannelError) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let got = bytes.withUnsafeMutableBytes { recv(socket, $0.baseAddress! + filled, count - filled, 0) }
            if got == 0 { return nil }
            if got < 0 {
                if errno == EINTR { continue }
                if errno == ECONNRESET { return nil }
                throw .system("recv", errno)
            }
            filled += got
        }
        return bytes
    }
}

/// Why the control socket failed.
public enum StageChannelError: Error, Equatable, Sendable {
    case system(String, Int32)
    case tooLarge(String)
    case malformed(String)
}

enum JSONOutput {
    /// Our own messages always encode: a failure is our bug.
    static func bytes(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return [UInt8](try encoder.encode(value))
        } catch {
            preconditionFailure("a message does not encode: \(error)")
        }
    }
}
