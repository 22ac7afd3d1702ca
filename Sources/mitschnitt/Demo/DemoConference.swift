import Foundation
import Recorder
import Media
import Truth

/// One meeting of the demo: people invited, a recording asked for, consents given, packets replayed into it.
struct DemoConference: Sendable {
    let title: String
    let capture: URL
    let truth: CaptureTruth
    let moderator: APIClient
    let meeting: MeetingID
    /// By the capture's letters.
    let people: [String: (id: ParticipantID, client: APIClient)]
    var recording: RecordingView

    /// Plans the meeting, invites everybody in the capture and asks for a recording of all their streams.
    init(title: String, capture: URL, names: [String: String], retentionDays: Int?, moderator: APIClient) async throws {
        self.title = title
        self.capture = capture
        self.moderator = moderator
        truth = try CaptureTruth(capture: capture)
        let created: MeetingView = try await moderator.post("/v1/meetings", MeetingRequest(title: title))
        meeting = created.id
        var invited: [String: (ParticipantID, APIClient)] = [:]
        for letter in Set(truth.streams.map(\.participant)).sorted() {
            let invitation: InvitationView = try await moderator.post("/v1/meetings/\(meeting)/participants",
                                                                      InvitationRequest(name: names[letter] ?? letter, minor: nil))
            invited[letter] = (invitation.participant.id, moderator.acting(with: invitation.token))
        }
        people = invited
        let request = RecordingRequest(
            pipeline: "meeting", sources: ["127.0.0.1"],
            streams: truth.streams.compactMap { stream in
                guard let person = invited[stream.participant], let kind = MediaKind(rawValue: stream.kind) else { return nil }
                return StreamRequest(participants: [person.0], kind: kind, sdp: stream.sdp)
            },
            retentionDays: retentionDays)
        recording = try await moderator.post("/v1/meetings/\(meeting)/recordings", request)
    }

    /// Somebody decides for themself, having been shown the notice.
    func decide(_ letter: String, _ decision: ConsentRequest.Decision) async throws {
        guard let person = people[letter] else { return }
        let notice: NoticeView = try await person.client.get("/v1/recordings/\(recording.id)/notice?language=de")
        let _: ConsentView = try await person.client.post(
            "/v1/recordings/\(recording.id)/consent",
            ConsentRequest(decision: decision, participant: nil, modalities: [.audio, .video], purposes: [.shareWithParticipants],
                           notice: notice.hash, language: .de, erase: nil))
    }

    /// The arguments by which `mitschnitt replay` sends each captured port to where the answer said.
    var replayMap: [String] {
        zip(truth.streams, recording.streams).flatMap { stream, view -> [String] in
            guard let endpoint = view.endpoint else { return [] }
            return ["--map", "\(stream.rtpPort)=\(endpoint.address):\(endpoint.rtpPort)",
                    "--map", "\(stream.rtcpPort)=\(endpoint.address):\(endpoint.rtcpPort)"]
        }
    }
}
