import HTTPTypes
import Hummingbird
import Media
import Recorder

/// What people are told, and where: on their page and by mail.
struct NotificationRoutes {
    let recorder: any RecorderAPI

    func add(to router: Router<WebContext>) {
        let recorder = recorder
        router.get("/v1/me/notifications") { request, context in
            let asked = request.uri.queryParameters["language"].map(String.init) ?? "de"
            guard let language = Language(rawValue: asked) else { throw RecorderError(.invalid, "the language '\(asked.prefix(20))'", hint: "de or en") }
            return JSONBody.response(try await recorder.notifications(in: language, as: context.required()))
        }
        // Opening a link has no effect: that something was read is a POST.
        router.post("/v1/me/notifications/:id/read") { _, context in
            try await recorder.markRead(context.parameters.get("id") ?? "", as: context.required())
            return Response(status: .noContent)
        }
        router.get("/v1/me/contact") { _, context in JSONBody.response(try await recorder.contact(as: context.required())) }
        router.put("/v1/me/contact") { request, context in
            let body = try await JSONBody.read(request, as: ContactRequest.self, keys: ["email", "language"])
            return JSONBody.response(try await recorder.setContact(body, as: context.required()))
        }
        router.delete("/v1/me/contact") { _, context in
            try await recorder.removeContact(as: context.required())
            return Response(status: .noContent)
        }
        router.get("/v1/recordings/:id/receipt") { request, context in
            let unknown = RecorderError(.notFound, "there is nothing with this id, or it is not yours")
            guard let id = context.parameters.get("id").flatMap({ RecordingID(rawValue: $0) }) else { throw unknown }
            guard let person = request.uri.queryParameters["participant"] else { return JSONBody.response(try await recorder.receipt(of: id, as: context.required())) }
            guard let participant = ParticipantID(rawValue: String(person)) else { throw unknown }
            return JSONBody.response(try await recorder.receipt(of: id, participant: participant, as: context.required()))
        }
    }
}
