import CSRTP
import Synchronization

/// Removes the protection of one m-line's packets (RFC 3711, RFC 7714), for any SSRC, and tells replayed and forged ones apart.
///
/// Several keys are tried in their order; the first under which a packet authenticates stays. Where a source's first packets fail, the
/// rollover counters that it may have reached are tried, a few with each packet: whoever comes late, or comes back after a restart or a long
/// outage, is told that counter by nobody (RFC 3711 section 3.3.1).
///
/// Proof of Sendable: all mutable state lies in the mutex.
public final class SRTPReceiver: Sendable {
    public enum Outcome: Hashable, Sendable {
        /// The plain packet's length in bytes.
        case plain(Int)
        /// Seen before, or older than the replay window.
        case replayed
        /// Another key, another suite, changed on the way, or not protected at all.
        case notAuthentic
        /// No packet.
        case malformed
    }

    /// Sources that may authenticate; the next ones are refused.
    static let sourcesMax = 256
    /// Sources that did not authenticate yet and are guessed about.
    static let guessedMax = 16
    /// Rollover counters tried with one packet, and in all for a source: a day of 1,500 packets a second.
    static let guessesPerPacket: UInt32 = 64
    static let guessesMax: UInt32 = 2_048
    /// Packets in sequence that fail before a known source's counter is guessed again, and how far ahead.
    static let failuresBeforeGuess = 10
    static let guessesAhead: UInt32 = 8

    private struct State {
        var contexts: [SRTPContext]
        /// By source that has authenticated: failures in sequence.
        var known: [UInt32: Int] = [:]
        /// By source that has not: the next counter to try.
        var guesses: [UInt32: UInt32] = [:]
    }

    private let state: Mutex<State>

    /// Without a key nothing authenticates.
    public init(keys: [SRTPKey]) { state = Mutex(State(contexts: keys.map { SRTPContext($0) })) }

    /// Copies a packet to `plain`, which must be at least as long, and removes its protection there. What is in `plain` after another
    /// outcome than `.plain` is not to be used; the caller overwrites it.
    public func unprotect(_ bytes: UnsafeRawBufferPointer, isControl: Bool, into plain: UnsafeMutableRawBufferPointer) -> Outcome {
        precondition(plain.count >= bytes.count && bytes.count <= Int(UInt16.max))
        // libsrtp reads the fixed headers before it looks at the length. What is too short for a tag is not authentic.
        guard bytes.count >= (isControl ? 8 : 12), bytes[0] >> 6 == 2 else { return .malformed }
        return state.withLock { state in
            let ssrc = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: isControl ? 4 : 8, as: UInt32.self))
            if !isControl, state.known[ssrc] == nil, state.known.count >= Self.sourcesMax { return .notAuthentic }
            for place in state.contexts.indices {
                var outcome = Self.attempt(state.contexts[place], bytes, isControl, plain)
                if outcome == .notAuthentic, !isControl { outcome = Self.guess(ssrc, place, bytes, plain, &state) }
                guard outcome != .notAuthentic else { continue }
                // Whether it was seen before is asked first, so a replay proves nothing.
                guard case .plain = outcome else { return outcome }
                state.contexts = [state.contexts[place]]
                if !isControl {
                    state.known[ssrc] = 0
                    state.guesses[ssrc] = nil
                }
                return outcome
            }
            if !isControl { note(failureOf: ssrc, &state) }
            return .notAuthentic
        }
    }

    private static func attempt(_ context: SRTPContext, _ bytes: UnsafeRawBufferPointer, _ isControl: Bool, _ plain: UnsafeMutableRawBufferPointer) -> Outcome {
        guard let base = plain.baseAddress else { return .notAuthentic }
        plain.copyMemory(from: bytes)
        var length = Int32(bytes.count)
        switch context.unprotect(base, &length, isControl: isControl) {
        case srtp_err_status_ok:
            precondition(length >= 0 && Int(length) <= bytes.count, "libsrtp gave more than it got")
            return .plain(Int(length))
        case srtp_err_status_replay_fail, srtp_err_status_replay_old: return .replayed
        default: return .notAuthentic
        }
    }

    private func note(failureOf ssrc: UInt32, _ state: inout State) {
        if let failures = state.known[ssrc] {
            state.known[ssrc] = min(failures + 1, Int(UInt16.max))
        } else if let next = state.guesses[ssrc] ?? (state.guesses.count < Self.guessedMax ? 1 : nil) {
            state.guesses[ssrc] = min(next + Self.guessesPerPacket, Self.guessesMax)
        }
    }

    private static func guess(_ ssrc: UInt32, _ place: Int, _ bytes: UnsafeRawBufferPointer, _ plain: UnsafeMutableRawBufferPointer,
                              _ state: inout State) -> Outcome {
        let context = state.contexts[place]
        if let failures = state.known[ssrc] {
            guard failures >= failuresBeforeGuess, let current = context.rolloverCounter(ssrc) else { return .notAuthentic }
            defer { _ = context.setRolloverCounter(0, ssrc) }
            return attempt(context, ssrc, (1...guessesAhead).map { current &+ $0 }, bytes, plain)
        }
        guard let next = state.guesses[ssrc] ?? (state.guesses.count < guessedMax ? 1 : nil), next < guessesMax, context.add(ssrc) else { return .notAuthentic }
        let outcome = attempt(context, ssrc, next..<min(next + guessesPerPacket, guessesMax), bytes, plain)
        if case .plain = outcome { return outcome }
        context.remove(ssrc)
        return outcome
    }

    private static func attempt(_ context: SRTPContext, _ ssrc: UInt32, _ counters: some Sequence<UInt32>, _ bytes: UnsafeRawBufferPointer,
                                _ plain: UnsafeMutableRawBufferPointer) -> Outcome {
        for counter in counters {
            guard context.setRolloverCounter(counter, ssrc) else { return .notAuthentic }
            let outcome = attempt(context, bytes, false, plain)
            if case .plain = outcome { return outcome }
        }
        return .notAuthentic
    }
}
