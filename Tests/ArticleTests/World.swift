import Consent
import Foundation
import Media
import Recorder
import TestSupport

/// Pipelines as small as they can be and still show everything.
enum Pipelines {
    static let folder = Checkout.root.appending(path: "Tests/ArticleTests/Pipelines")
    static let (width, height) = (640, 360)
}

/// One server and seven recordings of one conference, captured at the same time and rendered: what most tests share.
///
/// Each recording is one test's own, to be read, restricted, erased; `shared` is only read.
struct World: Sendable {
    static let controller = "Selbsthilfe Musterstadt e. V., Apfelweg 1"
    static let authority = "Aufsichtsbehörde Musterland, Prüfgasse 7"
    static let environment = ["MITSCHNITT_CONTROLLER": controller, "MITSCHNITT_SUPERVISORY_AUTHORITY": authority]

    private static let made = Task { try await World() }
    static var shared: World { get async throws { try await made.value } }

    let server: Server
    let moderator: Client
    /// A and B allow sound and picture, C sound only, as in all but the next and the sound-only ones; released.
    let shared: Conference
    /// A allows sound for the minutes only, B for all of them.
    let minutes: Conference
    let expiry: Conference
    /// With a large file, so that a download takes its time.
    let withdrawal: Conference
    let rename: Conference
    let erasure: Conference
    let restriction: Conference

    var opened: Opened { Opened(data: server.data) }

    private init() async throws {
        server = try await Server(environment: Self.environment)
        moderator = try await server.issue(.moderator)
        shared = try await Conference(server, moderator, pipeline: "meeting")
        minutes = try await Conference(server, moderator)
        expiry = try await Conference(server, moderator, days: 1)
        withdrawal = try await Conference(server, moderator, pipeline: "large")
        rename = try await Conference(server, moderator, pipeline: "meeting")
        erasure = try await Conference(server, moderator, pipeline: "meeting")
        restriction = try await Conference(server, moderator, days: 20)
        for conference in [shared, withdrawal, rename, erasure] {
            try await conference.give("A")
            try await conference.give("B", language: .en)
            try await conference.give("C", [.audio])
        }
        for conference in [expiry, restriction] {
            try await conference.give("A", [.audio])
            try await conference.give("B", [.audio])
        }
        try await minutes.give("A", [.audio], [.minutes])
        try await minutes.give("B", [.audio])
        let all = [shared, minutes, expiry, withdrawal, rename, erasure, restriction]
        try await Conference.talk(all)
        for conference in all { try await conference.stop() }
        for conference in all {
            try await conference.ready()
            try await conference.release()
        }
    }
}
