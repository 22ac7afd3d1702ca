/// A random, opaque name of one `Entity`, written as lower-case hexadecimal.
///
/// 256 bits, so that an id is never a guessable URL (CONSENT.md section 4); the authorisation check is made all the same.
/// The phantom `Entity` keeps two kinds of id from being mixed up in a call.
public struct Identifier<Entity>: RawRepresentable, Hashable, Sendable {
    public let rawValue: String

    /// Takes an id read from a store or a request; anything but 1 to 64 of `0-9 a-z -` is refused,
    /// so that an id can stand in a path or a log without escaping.
    public init?(rawValue: String) {
        guard (1...64).contains(rawValue.utf8.count),
              rawValue.utf8.allSatisfy({ (48...57).contains($0) || (97...122).contains($0) || $0 == 45 })
        else { return nil }
        self.rawValue = rawValue
    }

    /// Makes a new id from 32 random bytes of `generator`.
    public init(using generator: inout some RandomNumberGenerator) {
        rawValue = (0..<4).map { _ in
            let word = String(generator.next() as UInt64, radix: 16)
            return String(repeating: "0", count: 16 - word.count) + word
        }.joined()
    }

    /// Makes a new id from the system's random source.
    public static func random() -> Self {
        var generator = SystemRandomNumberGenerator()
        return Self(using: &generator)
    }
}

extension Identifier: Codable {
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let id = Self(rawValue: text) else {
            throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "not an id: 1 to 64 of 0-9 a-z -"))
        }
        self = id
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

extension Identifier: CustomStringConvertible {
    public var description: String { rawValue }
}

extension Identifier: Comparable {
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// The things that have an ``Identifier``. Never instantiated.
public enum Entity {
    public enum Meeting: Sendable {}
    public enum Participant: Sendable {}
    public enum Recording: Sendable {}
    public enum Stream: Sendable {}
    public enum Track: Sendable {}
    public enum Rendition: Sendable {}
    public enum Job: Sendable {}
    public enum Artifact: Sendable {}
    public enum Grant: Sendable {}
}

public typealias MeetingID = Identifier<Entity.Meeting>
/// A participant of one meeting: a pseudonym, never linked across meetings.
public typealias ParticipantID = Identifier<Entity.Participant>
public typealias RecordingID = Identifier<Entity.Recording>
/// One announced media stream of a recording (an m-line of an SDP).
public typealias StreamID = Identifier<Entity.Stream>
/// What was kept of one stream: one packet log under one key.
public typealias TrackID = Identifier<Entity.Track>
public typealias RenditionID = Identifier<Entity.Rendition>
public typealias JobID = Identifier<Entity.Job>
public typealias ArtifactID = Identifier<Entity.Artifact>
public typealias GrantID = Identifier<Entity.Grant>
