import Foundation
import Media
import Yams

/// What `mitschnitt render` is told: which captures, who is in them, and what each of them allowed.
struct RenderDescription: Decodable {
    struct Participant: Decodable {
        var id: String
        var name: String?
        var consent: Consent?
    }

    /// What is not named is not allowed.
    struct Consent: Decodable {
        var audio: Bool?
        var video: Bool?
        var screen: Bool?

        var modalities: [Modality] {
            [(Modality.audio, audio), (.video, video), (.screen, screen)].compactMap { $1 == true ? $0 : nil }
        }
    }

    struct Stream: Decodable {
        /// One participant, or several of a mixed source.
        var participant: String?
        var participants: [String]?
        var kind: MediaKind
        /// May be left out where `capture` is an .mjr.
        var sdp: String?
        /// A capture of this stream alone.
        var capture: String?
        var start: Moment?

        var everybody: [String] { participants ?? participant.map { [$0] } ?? [] }
    }

    /// A finished file, with everybody in it.
    struct File: Decodable {
        var path: String
        var participants: [String]
        var start: Moment?
        var kinds: [MediaKind]?
    }

    /// A date and time as RFC 3339 has them.
    struct Moment: Decodable {
        var time: WallTime

        init(from decoder: any Decoder) throws {
            let text = try decoder.singleValueContainer().decode(String.self)
            guard let date = (try? Date(text, strategy: .iso8601)) ?? (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))) else {  // one of the two forms
                throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "'\(text.prefix(40))' is no time such as 2026-11-24T20:00:00Z"))
            }
            time = WallTime(seconds: date.timeIntervalSince1970)
        }
    }

    var captures: [String]?
    var participants: [Participant]
    var streams: [Stream]?
    var files: [File]?

    static let fileBytesMax = 4 << 20

    /// Reads a description (YAML, of which JSON is a part) and checks that its parts fit together.
    static func read(_ file: URL) throws -> RenderDescription {
        let data: Data
        do {
            data = try Data(contentsOf: file)
        } catch {
            throw CommandError(what: "cannot read the description \(file.path): \(error.localizedDescription)")
        }
        guard data.count <= fileBytesMax else { throw CommandError(what: "\(file.path) is longer than \(fileBytesMax) bytes") }
        let description: RenderDescription
        do {
            description = try YAMLDecoder().decode(RenderDescription.self, from: String(decoding: data, as: UTF8.self))
        } catch {
            throw CommandError(what: "\(file.path): \(explained(error))", hint: "see `mitschnitt render --help` for the form of a description")
        }
        try description.check(file.path)
        return description
    }

    private func check(_ path: String) throws {
        let (captures, streams, files) = (captures ?? [], streams ?? [], files ?? [])
        guard (1...200).contains(streams.count + files.count) else { throw CommandError(what: "\(path): \(streams.count) streams and \(files.count) files", hint: "1 to 200") }
        guard captures.isEmpty == streams.allSatisfy({ $0.capture != nil }) else {
            throw CommandError(what: captures.isEmpty ? "\(path): no captures" : "\(path): captures are given, but each stream names one of its own", hint: "captures: [meeting.pcap]")
        }
        let known = Set(participants.map(\.id))
        guard known.count == participants.count else { throw CommandError(what: "\(path): a participant's id is there twice") }
        for (place, stream) in streams.enumerated() {
            try Self.check(stream.everybody, known, "\(path): streams[\(place)]")
            guard stream.sdp != nil || stream.capture != nil else {
                throw CommandError(what: "\(path): streams[\(place)] has no sdp", hint: "`mitschnitt inspect \(captures.first ?? "CAPTURE")` proposes one; only an .mjr, named as capture:, needs none")
            }
        }
        for (place, file) in files.enumerated() {
            try Self.check(file.participants, known, "\(path): files[\(place)]")
            guard file.kinds?.isEmpty != true else { throw CommandError(what: "\(path): files[\(place)] has no kinds", hint: "kinds: [audio, video], which is also what is taken without it") }
        }
    }

    private static func check(_ people: [String], _ known: Set<String>, _ where: String) throws {
        guard !people.isEmpty else { throw CommandError(what: "\(`where`) has no participant") }
        for id in people where !known.contains(id) {
            throw CommandError(what: "\(`where`) is of '\(id)', who is not among the participants", hint: "participants: \(known.sorted().joined(separator: ", "))")
        }
    }

    private static func explained(_ error: any Error) -> String {
        switch error {
        case DecodingError.keyNotFound(let key, let context): "'\(key.stringValue)' is missing\(place(context))"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context): "\(context.debugDescription)\(place(context))"
        case DecodingError.dataCorrupted(let context): context.underlyingError.map { "\($0)" } ?? "\(context.debugDescription)\(place(context))"
        default: "\(error)"
        }
    }

    private static func place(_ context: DecodingError.Context) -> String {
        let path = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
        return path.isEmpty ? "" : " at \(path.drop { $0 == "." })"
    }
}
