import HTTPTypes
import Hummingbird
import Media
import NIOCore
import Recorder

/// The rights of the people concerned over HTTP: restriction, export, rectification, and who was affected by a breach.
struct SubjectRoutes {
    let recorder: any RecorderAPI

    func add(to router: Router<WebContext>) {
        let recorder = recorder
        router.get("/v1/recordings/:id/restriction") { _, context in
            JSONBody.response(try await recorder.restriction(of: context.identifier(), as: context.required()))
        }
        router.put("/v1/recordings/:id/restriction") { request, context in
            let body = try await JSONBody.read(request, as: RestrictionRequest.self, keys: ["reason", "until", "participant"])
            return JSONBody.response(try await recorder.restrict(context.identifier(), body, as: context.required()))
        }
        router.delete("/v1/recordings/:id/restriction") { _, context in
            try await recorder.lift(context.identifier(), as: context.required())
            return Response(status: .noContent)
        }
        router.get("/v1/me/export") { _, context in try await export(context) }
        router.put("/v1/participants/:id/name") { request, context in
            let body = try await JSONBody.read(request, as: NameRequest.self, keys: ["name"])
            return JSONBody.response(try await recorder.rename(context.identifier(), body, as: context.required()))
        }
        router.post("/v1/participants/:id/guardian") { _, context in
            JSONBody.response(try await recorder.inviteGuardian(of: context.identifier(), as: context.required()), status: .created)
        }
        router.post("/v1/breach") { request, context in
            let body = try await JSONBody.read(request, as: BreachRequest.self, keys: ["objects"])
            return JSONBody.response(try await recorder.affected(by: body, as: context.required()))
        }
    }

    /// An error in the body leaves the answer shorter than announced: the connection is reset, never ended cleanly.
    private func export(_ context: WebContext) async throws -> Response {
        let export = try await recorder.export(as: context.required())
        let headers: HTTPFields = [.contentType: "application/x-tar", .cacheControl: "private, no-store", .contentDisposition: "attachment; filename=\"\(export.fileName)\""]
        return Response(status: .ok, headers: headers, body: ResponseBody(contentLength: export.length) { writer in
            for try await chunk in export.body() { try await writer.write(ByteBuffer(bytes: chunk)) }
            try await writer.finish(nil)
        })
    }
}

extension WebContext {
    /// The id in the path; a malformed one is answered like an unknown one.
    fileprivate func identifier<Entity>() throws -> Identifier<Entity> {
        guard let id = parameters.get("id").flatMap({ Identifier<Entity>(rawValue: $0) }) else { throw RecorderError(.notFound, "there is nothing with this id, or it is not yours") }
        return id
    }
}
