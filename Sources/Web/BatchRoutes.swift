import Hummingbird
import Media
import Recorder

/// Batches over HTTP, for the operator.
struct BatchRoutes {
    let recorder: any RecorderAPI

    func add(to router: Router<WebContext>) {
        let recorder = recorder
        router.post("/v1/batches") { request, context in
            let body = try await JSONBody.read(request, as: BatchRequest.self, keys: ["pipeline", "recordings"])
            return JSONBody.response(try await recorder.startBatch(body, as: context.required()), status: .created)
        }
        router.get("/v1/batches") { _, context in JSONBody.response(try await recorder.batches(as: context.required())) }
        router.get("/v1/batches/:id") { _, context in JSONBody.response(try await recorder.batch(id(context), as: context.required())) }
        router.post("/v1/batches/:id/cancel") { _, context in JSONBody.response(try await recorder.cancelBatch(id(context), as: context.required())) }
    }

    private func id(_ context: WebContext) -> String { context.parameters.get("id") ?? "" }
}
