import Foundation

/// A small seeded generator (SplitMix64): the same seed, the same run.
public struct Seeded: RandomNumberGenerator, Sendable {
    private var state: UInt64
    public init(_ seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    public mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &self) } }
}

/// Runs what blocks for long on a thread of its own: the cooperative pool has as few as the machine has cores, and other tests wait for it.
public func aside<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
    }
}

/// A folder that goes with the test.
public final class TemporaryFolder: Sendable {
    public let url: URL
    public var path: String { url.path }

    public init() throws {
        url = FileManager.default.temporaryDirectory.appending(path: "mitschnitt-test-\(UUID().uuidString.lowercased())")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    deinit { try? FileManager.default.removeItem(at: url) }  // what is left is in the system's temporary folder

    /// Whether any file below holds these bytes.
    public func contains(_ bytes: [UInt8]) throws -> Bool {
        let all = FileManager.default.enumerator(at: url, includingPropertiesForKeys: nil)
        while let file = all?.nextObject() as? URL {
            guard let data = try? Data(contentsOf: file) else { continue }  // folders
            if data.range(of: Data(bytes)) != nil { return true }
        }
        return false
    }
}

/// The checkout's own files.
public enum Checkout {
    public static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    public static let fixtures = root.appending(path: "Fixtures")
    public static let pipelines = root.appending(path: "Pipelines")

    /// A program that was built beside the tests.
    public static func program(_ name: String) -> String {
        let me = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""  // always there on Linux
        return URL(filePath: me).deletingLastPathComponent().appending(path: name).path
    }
}

/// An RTP packet.
public func rtp(_ sequence: UInt16, _ timestamp: UInt32, payloadType: UInt8 = 96, ssrc: UInt32 = 7, marker: Bool = false, payload: [UInt8]) -> [UInt8] {
    func be<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }
    return [0x80, payloadType | (marker ? 0x80 : 0)] + be(sequence) + be(timestamp) + be(ssrc) + payload
}
