import Foundation
import HTTPTypes
import Hummingbird
import Media
import Recorder

/// The queue over HTTP, for the operator.
struct JobRoutes {
    let recorder: any RecorderAPI

    func add(to router: Router<WebContext>) {
        let recorder = recorder
        router.get("/v1/jobs") { request, context in
            let states = request.uri.queryParameters["state"].map { $0.split(separator: ",").map(String.init) } ?? []
            return JSONBody.response(try await recorder.jobs(states: states, as: context.required()))
        }
        router.get("/v1/jobs/events") { _, context in try await events(context) }
        router.post("/v1/jobs/pause") { request, context in try await pause(true, request, context) }
        router.post("/v1/jobs/resume") { request, context in try await pause(false, request, context) }
        router.get("/v1/jobs/:id") { _, context in JSONBody.response(try await recorder.job(id(context), as: context.required())) }
        for command in JobCommand.allCases {
            router.post("/v1/jobs/:id/\(command.rawValue)") { _, context in JSONBody.response(try await recorder.control(id(context), command, as: context.required())) }
        }
    }

    private func pause(_ isPaused: Bool, _ request: Request, _ context: WebContext) async throws -> Response {
        let body = try await JSONBody.read(request, as: PauseRequest.self, keys: ["scope"])
        return JSONBody.response(try await recorder.pauseJobs(isPaused, scope: body.scope, as: context.required()))
    }

    private func events(_ context: WebContext) async throws -> Response {
        let views = try await recorder.watchJobs(as: context.required())
        return ServerSentEvents.response("queue", views)
    }

    private func id(_ context: WebContext) throws -> JobID {
        guard let id = context.parameters.get("id").flatMap({ JobID(rawValue: $0) }) else { throw RecorderError(.notFound, "there is no job with this id", hint: "mitschnitt jobs list") }
        return id
    }
}
