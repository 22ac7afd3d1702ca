import Crypto
import Foundation
import Synchronization

/// Signed-in browsers: an opaque random id in a cookie, the token only in memory here. A restart signs everybody out.
final class Sessions: Sendable {
    struct Session: Sendable {
        var id: String
        /// The bearer token that was redeemed; looked up again at each request, so that a revoked one ends the session.
        var token: String
        var csrf: String
        var lastSeen: Double
    }

    static let countMax = 10_000
    static let idleSeconds = 8 * 3600.0
    static let failuresPerMinute = 10
    static let failuresPerMinuteOverall = 60

    private struct State {
        var sessions: [String: Session] = [:]
        var failures: [String: [Double]] = [:]
    }
    private let state = Mutex(State())

    private static func random() -> String { SymmetricKey(size: .bits256).withUnsafeBytes { Data($0) }.base64EncodedString().filter { $0.isLetter || $0.isNumber } }

    func open(token: String, now: Double) -> Session {
        state.withLock { state in
            state.sessions = state.sessions.filter { now - $0.value.lastSeen < Self.idleSeconds }
            if state.sessions.count >= Self.countMax, let oldest = state.sessions.min(by: { $0.value.lastSeen < $1.value.lastSeen }) { state.sessions[oldest.key] = nil }
            let session = Session(id: Self.random(), token: token, csrf: Self.random(), lastSeen: now)
            state.sessions[session.id] = session
            return session
        }
    }

    func find(_ id: String, now: Double) -> Session? {
        state.withLock { state in
            guard var session = state.sessions[id], now - session.lastSeen < Self.idleSeconds else { return nil }
            session.lastSeen = now
            state.sessions[id] = session
            return session
        }
    }

    func close(_ id: String) { state.withLock { $0.sessions[id] = nil } }

    /// Whether this client has failed too often of late to try again; seconds to wait, or nil.
    func waits(_ client: String, now: Double) -> Int? {
        state.withLock { state in
            state.failures = state.failures.mapValues { $0.filter { now - $0 < 60 } }.filter { !$0.value.isEmpty }
            let own = state.failures[client] ?? []
            let all = state.failures.values.reduce(0) { $0 + $1.count }
            return own.count >= Self.failuresPerMinute || all >= Self.failuresPerMinuteOverall ? 60 : nil
        }
    }

    func noteFailure(_ client: String, now: Double) { state.withLock { $0.failures[client, default: []].append(now) } }
}
