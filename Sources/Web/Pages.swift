import HTTPTypes
import Hummingbird
import NIOCore

/// The pages and what they are made of: files that are compiled in, the same for everybody; what they show comes over the API.
enum Pages {
    static func add(to router: Router<WebContext>) {
        let files: [(path: String, type: String, bytes: [UInt8])] = [
            ("/", "text/html; charset=utf-8", PackageResources.index_html), ("/participant", "text/html; charset=utf-8", PackageResources.participant_html),
            ("/moderator", "text/html; charset=utf-8", PackageResources.moderator_html), ("/assets/style.css", "text/css; charset=utf-8", PackageResources.style_css),
            ("/assets/app.js", "text/javascript; charset=utf-8", PackageResources.app_js), ("/v1/openapi.json", "application/json", PackageResources.openapi_json),
        ]
        for file in files {
            router.get(RouterPath(file.path)) { _, _ in
                Response(status: .ok, headers: [.contentType: file.type, .cacheControl: "no-cache"], body: .init(byteBuffer: ByteBuffer(bytes: file.bytes)))
            }
        }
    }
}
