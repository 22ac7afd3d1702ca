import Dispatch
import Foundation

/// Runs blocking calls away from the cooperative pool, which is only as wide as the machine has cores.
public enum BlockingWork {
    private static let queue = DispatchQueue(label: "mitschnitt.blocking", attributes: .concurrent)

    /// Short blocking work (a read, an fsync) on a shared concurrent queue.
    public static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try body() }) }
        }
    }

    /// Long blocking work (a conversation with a child, an import) on a thread of its own.
    public static func onThread<Value: Sendable>(named name: String, _ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let thread = Thread { continuation.resume(with: Result { try body() }) }
            thread.name = name
            thread.stackSize = 8 << 20
            thread.start()
        }
    }
}
