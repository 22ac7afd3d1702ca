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
        var sdp: String

        var everybody: [String] { participants ?? participant.map { [$0] } ?? [] }
    }

    var captures: [String]
    var participants: [Participant]
    var streams: [Stream]

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
        guard !captures.isEmpty else { throw CommandError(what: "\(path): no captures", hint: "captures: [meeting.pcap]") }
        guard !streams.isEmpty, streams.count <= 200 else { throw CommandError(what: "\(path): \(streams.count) streams", hint: "1 to 200") }
        let known = Set(participants.map(\.id))
        guard known.count == participants.count else { throw CommandError(what: "\(path): a participant's id is there twice") }
        for (place, stream) in streams.enumerated() {
            guard !stream.everybody.isEmpty else { throw CommandError(what: "\(path): streams[\(place)] has no participant") }
            for id in stream.everybody where !known.contains(id) {
                throw CommandError(what: "\(path): streams[\(place)] is of '\(id)', who is not among the participants", hint: "participants: \(known.sorted().joined(separator: ", "))")
            }
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
