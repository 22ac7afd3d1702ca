import Foundation
import HTTPTypes
import Hummingbird
import Media
import Recorder

/// The JSON API under `/v1`. Each route reads its request, asks the recorder, and encodes what it says.
struct APIRoutes {
    let recorder: any RecorderAPI

    func add(to router: Router<WebContext>) {
        let recorder = recorder
        router.get("/v1/health") { _, _ in JSONBody.response(["status": "ok"]) }
        router.get("/v1/me") { _, context in
            let principal = try context.required()
            return JSONBody.response(Me(role: principal.role, subject: principal.subject, participant: principal.participant, meeting: principal.meeting, guardian: principal.isGuardian ? true : nil, csrf: context.session?.csrf))
        }
        router.post("/v1/tokens") { request, context in
            let body = try await JSONBody.read(request, as: TokenRequest.self, keys: ["role", "days"])
            return JSONBody.response(try await recorder.issueToken(body, as: context.required()), status: .created)
        }
        router.post("/v1/clock") { request, context in
            let body = try await JSONBody.read(request, as: ClockRequest.self, keys: ["advance_seconds"])
            return JSONBody.response(try await recorder.advanceClock(bySeconds: body.advanceSeconds, as: context.required()))
        }
        addMeetings(router)
        addRecordings(router)
        addConsent(router)
    }

    private func addMeetings(_ router: Router<WebContext>) {
        let recorder = recorder
        router.post("/v1/meetings") { request, context in
            let body = try await JSONBody.read(request, as: MeetingRequest.self, keys: ["title"])
            return JSONBody.response(try await recorder.createMeeting(body, as: context.required()), status: .created)
        }
        router.get("/v1/meetings") { _, context in JSONBody.response(try await recorder.meetings(as: context.required())) }
        router.get("/v1/meetings/:id") { _, context in JSONBody.response(try await recorder.meeting(id(context), as: context.required())) }
        router.post("/v1/meetings/:id/participants") { request, context in
            let body = try await JSONBody.read(request, as: InvitationRequest.self, keys: ["name", "minor", "email", "language"])
            return JSONBody.response(try await recorder.invite(body, to: id(context), as: context.required()), status: .created)
        }
        router.post("/v1/meetings/:id/recordings") { request, context in
            let body = try await JSONBody.read(request, as: RecordingRequest.self, keys: [
                "pipeline", "sources", "streams", "retention_days", "streams.participants", "streams.kind", "streams.sdp",
            ])
            return JSONBody.response(try await recorder.createRecording(body, in: id(context), as: context.required()), status: .created)
        }
        router.get("/v1/meetings/:id/recordings") { _, context in JSONBody.response(try await recorder.recordings(of: id(context), as: context.required())) }
    }

    private func addRecordings(_ router: Router<WebContext>) {
        let recorder = recorder
        router.get("/v1/recordings/events") { _, context in ServerSentEvents.response("progress", try await recorder.watchProgress(as: context.required())) }
        router.get("/v1/recordings/:id") { _, context in JSONBody.response(try await recorder.recording(id(context), as: context.required())) }
        for command in RecordingCommand.allCases {
            router.post("/v1/recordings/:id/\(command.rawValue)") { _, context in
                JSONBody.response(try await recorder.control(id(context), command, as: context.required()))
            }
        }
        router.post("/v1/recordings/:id/presence") { request, context in
            let body = try await JSONBody.read(request, as: PresenceRequest.self, keys: ["stream", "participant", "present"])
            return JSONBody.response(try await recorder.notePresence(body, in: id(context), as: context.required()))
        }
        router.post("/v1/recordings/:id/grants") { request, context in
            let body = try await JSONBody.read(request, as: GrantRequest.self, keys: ["purpose", "hours"])
            return JSONBody.response(try await recorder.grant(body, on: id(context), as: context.required()), status: .created)
        }
        router.get("/v1/recordings/:id/renditions") { _, context in JSONBody.response(try await recorder.renditions(of: id(context), as: context.required())) }
        router.get("/v1/recordings/:id/plan") { _, context in JSONBody.response(try await recorder.plan(of: id(context), as: context.required())) }
        router.get("/v1/recordings/:id/timeline") { _, context in JSONBody.response(try await recorder.timeline(of: id(context), as: context.required())) }
        let downloads = DownloadRoutes(recorder: recorder)
        router.get("/v1/renditions/:id/content") { request, context in try await downloads.answer(request, context) }
        router.head("/v1/renditions/:id/content") { request, context in try await downloads.answer(request, context) }
    }

    private func addConsent(_ router: Router<WebContext>) {
        let recorder = recorder
        router.get("/v1/recordings/:id/notice") { request, context in
            let asked = request.uri.queryParameters["language"].map(String.init) ?? "de"
            guard let language = Language(rawValue: asked) else { throw RecorderError(.invalid, "the language '\(asked.prefix(20))'", hint: "de or en") }
            return JSONBody.response(try await recorder.notice(for: id(context), language: language, as: context.required()))
        }
        router.get("/v1/recordings/:id/consent") { _, context in JSONBody.response(try await recorder.consent(on: id(context), as: context.required())) }
        router.post("/v1/recordings/:id/consent") { request, context in
            let body = try await JSONBody.read(request, as: ConsentRequest.self, keys: ["decision", "participant", "modalities", "purposes", "notice", "language", "method", "erase"])
            return JSONBody.response(try await recorder.decide(body, on: id(context), as: context.required()))
        }
    }

    struct ClockRequest: Decodable { var advanceSeconds: Double }
    struct Me: Encodable {
        var role: Principal.Role
        /// The pseudonym by which the audit log and restrictions name whoever asks.
        var subject: String
        var participant: ParticipantID?
        var meeting: MeetingID?
        /// Set for a declared minor's guardian.
        var guardian: Bool?
        /// To be sent as X-CSRF-Token with every change; only with a session.
        var csrf: String?
    }
}

/// The id in a path; a malformed one is answered like an unknown one.
@Sendable private func id<Entity>(_ context: WebContext) throws -> Identifier<Entity> {
    guard let id = context.parameters.get("id").flatMap({ Identifier<Entity>(rawValue: $0) }) else { throw RecorderError(.notFound, "there is nothing with this id, or it is not yours") }
    return id
}
