import Consent
import Foundation
import Media
import Recorder
import TestSupport
import Testing
import Truth

/// A meeting of A, B and C on a server, and one recording of it.
final class Conference: Sendable {
    struct Person: Sendable {
        var id: ParticipantID
        var name: String
        var client: Client
    }

    static let everything = ["A", "B", "C"].flatMap { [Speech.Route($0, .audio), Speech.Route($0, .video)] }
    static let names = ["A": "Annegret Apfelbaum", "B": "Balduin Birnstiel", "C": "Cordula Clematis"]
    static let title = "Anonyme Apfelesser"

    let server: Server
    let moderator: Client
    let meeting: MeetingID
    let people: [String: Person]
    let id: RecordingID
    /// As the answer gave them, in the order of `routes`.
    let streams: [StreamView]
    let routes: [Speech.Route]

    init(_ server: Server, _ moderator: Client, pipeline: String = "sound", days: Int? = nil, routes: [Speech.Route] = everything, minors: Set<String> = [], sources: [String]? = nil) async throws {
        (self.server, self.moderator, self.routes) = (server, moderator, routes)
        let created: MeetingView = try await moderator.post("/v1/meetings", MeetingRequest(title: Self.title))
        meeting = created.id
        var people: [String: Person] = [:]
        for letter in ["A", "B", "C"] {
            let invited: InvitationView = try await moderator.post("/v1/meetings/\(meeting)/participants", InvitationRequest(name: Self.names[letter]!, minor: minors.contains(letter)))
            people[letter] = Person(id: invited.participant.id, name: Self.names[letter]!, client: Client(server, token: invited.token))
        }
        self.people = people
        let speech = try Speech.shared.get()
        let request = RecordingRequest(pipeline: pipeline, sources: sources,
                                       streams: routes.map { StreamRequest(participants: [people[$0.letter]!.id], kind: $0.kind, sdp: speech.sdp($0)) }, retentionDays: days)
        let view: RecordingView = try await moderator.post("/v1/meetings/\(meeting)/recordings", request)
        (id, streams) = (view.id, view.streams)
    }

    subscript(_ letter: String) -> Person { people[letter]! }
    var path: String { "/v1/recordings/\(id)" }

    /// Where each stream is to be sent.
    var places: [Speech.Route: [UInt16]] { Dictionary(zip(routes, streams).map { ($0, [UInt16($1.endpoint!.rtpPort)]) }) { $0 + $1 } }

    func notice(_ letter: String, _ language: Language = .de) async throws -> NoticeView { try await self[letter].client.get("\(path)/notice?language=\(language.rawValue)") }

    /// Somebody says yes for themself, having been shown the notice.
    @discardableResult
    func give(_ letter: String, _ modalities: [Modality] = [.audio, .video], _ purposes: [Purpose]? = nil, language: Language = .de, by client: Client? = nil) async throws -> ConsentView {
        let shown = try await notice(letter, language)
        return try await (client ?? self[letter].client).post("\(path)/consent", ConsentRequest(decision: .given, modalities: modalities, purposes: purposes, notice: shown.hash, language: language))
    }

    @discardableResult
    func decide(_ letter: String, _ decision: ConsentRequest.Decision, erase: Bool? = nil) async throws -> ConsentView {
        try await self[letter].client.post("\(path)/consent", ConsentRequest(decision: decision, erase: erase))
    }

    /// What the person's own line says.
    func line(_ letter: String) async throws -> ConsentView.Person {
        let view: ConsentView = try await self[letter].client.get("\(path)/consent")
        #expect(view.people.map(\.participant) == [self[letter].id])
        return try #require(view.people.first)
    }

    struct Counts: Equatable, Sendable {
        var kept = 0
        var dropped = 0
    }

    func counts(_ route: Speech.Route) async throws -> Counts {
        let view: RecordingView = try await moderator.get(path)
        let stream = try #require(zip(routes, view.streams).first { $0.0 == route }?.1)
        return Counts(kept: stream.packets, dropped: stream.droppedByGate)
    }

    /// Sends the first `count` packets of a stream at once and waits until each was decided on; what was decided.
    func burst(_ route: Speech.Route, _ count: Int = 30) async throws -> Counts {
        let before = try await counts(route)
        let packets = try Speech.shared.get().of(route).prefix(count)
        #expect(packets.count == count)
        try await Speech.send(Array(packets), to: places)
        var after = before
        try await eventually("\(count) packets were decided on") {
            after = try await counts(route)
            return after.kept + after.dropped == before.kept + before.dropped + count
        }
        return Counts(kept: after.kept - before.kept, dropped: after.dropped - before.dropped)
    }

    /// Sends everything to all of them at its own timing and waits until each packet was decided on.
    static func talk(_ conferences: [Conference]) async throws {
        let packets = try Speech.shared.get().packets
        try await Speech.send(packets, to: conferences.map(\.places).reduce(into: [:]) { all, own in all.merge(own) { $0 + $1 } }, isTimed: true)
        for conference in conferences {
            for route in conference.routes {
                try await eventually("everything sent was decided on") {
                    let counts = try await conference.counts(route)
                    return counts.kept + counts.dropped == packets.filter { $0.route == route }.count
                }
            }
        }
    }

    func stop() async throws { let _: RecordingView = try await moderator.post("\(path)/stop") }

    func release() async throws { let _: RecordingView = try await moderator.post("\(path)/release") }

    @discardableResult
    func ready() async throws -> RecordingView {
        var view: RecordingView = try await moderator.get(path)
        try await eventually("the recording is ready") {
            view = try await moderator.get(path)
            guard view.state != .failed else { throw Client.Unexpected(description: "failed: \(view.problems) \(view.progress)") }
            return view.state == .ready
        }
        return view
    }

    func renditions(_ letter: String) async throws -> [RenditionView] { try await self[letter].client.get("\(path)/renditions") }

    func rendition(_ kind: String, for letter: String) async throws -> RenditionView { try #require(try await renditions(letter).first { $0.kind == kind && $0.container == "mp4" }) }

    /// The person reads it into a file.
    func download(_ rendition: RenditionView, by letter: String) async throws -> URL {
        let answer = try await self[letter].client.raw(.GET, "/v1/renditions/\(rendition.id)/content")
        #expect(answer.status == 200 && answer.body.count == rendition.bytes, "\(answer.status)")
        let file = server.folder.url.appending(path: "tmp/read-\(UUID().uuidString).\(rendition.container)")
        try answer.body.write(to: file)
        return file
    }
}

/// How loud each one's tone is in a file where it lasts for more than half a second, 0...1.
func heard(_ file: URL) throws -> [String: Double] {
    let listener = Listener(samples: try Decoded.sound(of: file))
    let speech = try Speech.shared.get()
    return Dictionary(uniqueKeysWithValues: ["A", "B", "C"].map { letter in
        func levels(_ beside: Double) -> [Double] { listener.amplitudes(of: speech.tone(letter) + beside, window: 0.2, hop: 0.1).map(\.amplitude) }
        // Less what lies beside it: the edges of other tones are broad.
        let clean = zip(levels(0), zip(levels(-30), levels(30))).map { max(0, $0 - max($1.0, $1.1)) }
        return (letter, clean.indices.dropLast(4).map { clean[$0..<$0 + 5].min() ?? 0 }.max() ?? 0)
    })
}

/// Whose picture is in a file.
func seen(_ file: URL, width: Int, height: Int) throws -> Set<String> {
    let speech = try Speech.shared.get()
    let names = Dictionary(uniqueKeysWithValues: speech.truth.people.map { ($0.value.index, $0.key) })
    let boxes = CodedPicture.candidates(width: width, height: height)
    var found: Set<String> = []
    try Decoded.pictures(of: file, width: width, height: height) { luma in
        for box in boxes { if let shown = CodedPicture.read(luma, width: width, height: height, in: box), let name = names[shown.index] { found.insert(name) } }
    }
    return found
}
