import Crypto
import Foundation
import Media

/// One act of consent, refusal or withdrawal: evidence, never changed once written (CONSENT.md section 1, ISO/IEC TS 27560).
public struct ConsentEvent: Hashable, Codable, Sendable {
    public enum Kind: String, Codable, Sendable, CaseIterable {
        case requested, given, refused, withdrawn, reconfirmed, expired, invalidated
    }

    /// How it was expressed.
    public enum Method: String, Codable, Sendable, CaseIterable {
        case click
        case digit
        /// The person's own words, passed on by a platform that asked them.
        case platform
        /// Somebody else's act; can only refuse or withdraw.
        case onBehalf = "on-behalf"
    }

    public static let schemaVersion = 1

    public var schema = ConsentEvent.schemaVersion
    /// Place in the recording's chain, from 1.
    public var sequence: Int
    public var recording: RecordingID
    public var participant: ParticipantID
    public var kind: Kind
    public var occurredAt: WallTime
    public var receivedAt: WallTime
    public var modalities: [Modality]
    public var purposes: [Purpose]
    /// SHA-256 of the exact text shown, and its version and language. Empty where none was needed.
    public var noticeHash: String
    public var noticeVersion: String
    public var language: String
    public var method: Method
    /// True where the person acted themself.
    public var isOwnAct: Bool
    /// A guardian acts for a declared minor.
    public var isGuardian: Bool
    public var retentionClass: String
    /// The consent ends with it, at the latest.
    public var expiresAt: WallTime
    /// Whether a withdrawal asks for what was recorded to be destroyed.
    public var asksErasure: Bool
    /// Hash of the event before it in the recording's chain; empty for the first.
    public var previousHash: String

    public init(sequence: Int, recording: RecordingID, participant: ParticipantID, kind: Kind, occurredAt: WallTime, receivedAt: WallTime,
                modalities: [Modality], purposes: [Purpose], noticeHash: String, noticeVersion: String, language: String, method: Method,
                isOwnAct: Bool, isGuardian: Bool, retentionClass: String, expiresAt: WallTime, asksErasure: Bool, previousHash: String) {
        self.sequence = sequence
        self.recording = recording
        self.participant = participant
        self.kind = kind
        self.occurredAt = occurredAt
        self.receivedAt = receivedAt
        self.modalities = modalities
        self.purposes = purposes
        self.noticeHash = noticeHash
        self.noticeVersion = noticeVersion
        self.language = language
        self.method = method
        self.isOwnAct = isOwnAct
        self.isGuardian = isGuardian
        self.retentionClass = retentionClass
        self.expiresAt = expiresAt
        self.asksErasure = asksErasure
        self.previousHash = previousHash
    }

    /// The event as canonical JSON (sorted keys), which is what is stored and hashed.
    public func canonicalJSON() -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let json = try? encoder.encode(self) else { preconditionFailure("plain values encode") }
        return json
    }

    /// SHA-256 of the canonical JSON, hexadecimal; the next event's ``previousHash``.
    public func hash() -> String {
        SHA256.hash(data: canonicalJSON()).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}
