import Catalog
import Foundation
import GRDB
import Media
@testable import Recorder
import Synchronization
import Testing

@Suite("Restriction", .serialized)
struct RestrictionTests {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    init() throws { rights = try Rights() }

    private func until(days: Int64) -> Double { (recorder.clock.now + .seconds(days * 86_400)).seconds }
    private func hold(_ id: RecordingID, days: Int64 = 10, as principal: Principal? = nil) async throws -> RestrictionView {
        try await recorder.restrict(id, RestrictionRequest(reason: .legalClaims, until: until(days: days)), as: principal ?? rights.moderator)
    }

    @Test("Art. 18: what is restricted is not downloaded, released, granted, erased or rendered; lifted, all of it works again")
    func refusals() async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let (id, anna) = (made.id, made.principal("A"))
        _ = try await recorder.control(id, .release, as: rights.moderator)
        let rendition = try #require(try await recorder.renditions(of: id, as: anna).first { $0.downloadable })
        let running = try await recorder.download(rendition.id, as: anna)
        let placed = try await hold(id)
        #expect(placed.placedBy == "moderator" && placed.reason == .legalClaims)
        #expect(await Rights.code { try await recorder.download(rendition.id, as: anna) } == .restricted)
        await #expect(throws: (any Error).self) { for try await _ in running.body(0..<running.length) {} }
        #expect(try await recorder.renditions(of: id, as: anna).allSatisfy { !$0.downloadable && $0.reason?.contains("restricted until") == true })
        #expect(await Rights.code { try await recorder.grant(GrantRequest(), on: id, as: anna) } == .restricted)
        for command in [RecordingCommand.release, .erase, .resume] { #expect(await Rights.code { try await recorder.control(id, command, as: rights.moderator) } == .restricted, "\(command)") }
        // The person sees why and until when, and not who.
        let seen = try #require(try await recorder.recording(id, as: anna).restriction)
        #expect(seen.until == placed.until && seen.reason == .legalClaims && seen.placedBy == nil)
        // A corrected name asks for a new version: it is not made while the restriction holds.
        _ = try await recorder.rename(anna.participant!, NameRequest(name: "Anna B."), as: anna)
        let worker = Task { try await StageWorker(recorder: recorder).run() }
        try await Task.sleep(for: .seconds(2))
        #expect(try await recorder.recording(id, as: rights.moderator).state == .processing)
        #expect(try await recorder.renditions(of: id, as: anna).map(\.id).contains(rendition.id))
        #expect(await Rights.code { try await recorder.lift(id, as: Principal(role: .moderator, subject: "another")) } == .forbidden)
        try await recorder.lift(id, as: rights.moderator)
        for _ in 0..<300 where try await recorder.recording(id, as: rights.moderator).state != .ready { try await Task.sleep(for: .milliseconds(100)) }
        worker.cancel()
        _ = try? await worker.value  // how a cancelled worker ends is not what is asked
        let after = try await recorder.renditions(of: id, as: anna)
        #expect(after.count >= 1 && after.allSatisfy(\.downloadable) && after.map(\.id).contains(rendition.id) == (rendition.kind != "composite"))
        #expect(await Rights.code { try await recorder.restriction(of: id, as: anna) } == .notFound)
        await recorder.shutDown()
    }

    @Test("Art. 18: nothing expires while it holds; when it ends, an expiry that had to wait is caught up at once", arguments: [true, false])
    func expiry(isLifted: Bool) async throws {
        let made = try await rights.imported(["A": [.audio]])
        let id = made.id
        let view = try await recorder.recording(id, as: rights.moderator)
        let end = view.expiresAt + 5 * 86_400
        _ = try await recorder.restrict(id, RestrictionRequest(reason: .accuracy, until: end, participant: made.people["A"]), as: rights.operatorPrincipal)
        try recorder.clock.advance(by: Nanoseconds(seconds: view.expiresAt - recorder.clock.now.seconds + 10))
        await recorder.tidy()
        #expect(try await recorder.recording(id, as: made.principal("A")).restriction?.until == end)
        #expect(try await recorder.recordings(of: made.meeting, as: made.principal("A")).map(\.id) == [id])
        #expect(try await recorder.keys.ids(below: id).count >= 3)
        #expect(await recorder.metrics().first { $0.name == "mitschnitt_recordings_past_date" }?.value == 0)
        if isLifted {
            try await recorder.lift(id, as: rights.operatorPrincipal)
        } else {
            try recorder.clock.advance(by: .seconds(5 * 86_400))
            await recorder.tidy()
        }
        #expect(try await recorder.keys.count() == 0)
        #expect(!FileManager.default.fileExists(atPath: rights.data.appending(path: "recordings/\(id)").path))
        #expect(try await recorder.receipt(of: id, as: rights.moderator).trigger == "expiry")
        #expect(await Rights.code { try await hold(id) } == .gone)
        await recorder.shutDown()
    }

    @Test("Art. 18: a withdrawal meanwhile is told, shares nothing, and its erasure is carried out when the restriction ends", arguments: [false, true])
    func withdrawal(isRestarted: Bool) async throws {
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let (id, bert) = (made.id, made.principal("B"))
        _ = try await recorder.control(id, .release, as: rights.moderator)
        let before = try await recorder.keys.ids(below: id)
        let file = rights.data.appending(path: "recordings/\(id)/artifacts/\(try await rights.track(id, 2)).sealed")
        _ = try await hold(id)
        let told = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: id, as: bert)
        #expect(told.people.map(\.erasureWaits) == [true] && told.people.map(\.decision) == ["withdrawn"])
        let seen = try await recorder.restriction(of: id, as: bert)
        #expect(told.restriction?.reason == .legalClaims && told.restriction?.until == seen.until)
        #expect(try await recorder.consent(on: id, as: made.principal("A")).people.map(\.erasureWaits) == [nil])
        #expect(try await recorder.keys.ids(below: id) == before)
        #expect(FileManager.default.fileExists(atPath: file.path))
        // A restart finishes interrupted erasures: this one is not.
        if isRestarted { try await recorder.recover() }
        #expect(try await recorder.keys.ids(below: id) == before)
        // The date has passed, the sweep not come by: still nobody reads them.
        try recorder.clock.advance(by: .seconds(10 * 86_400 + 1))
        #expect(try await recorder.renditions(of: id, as: made.principal("A")).allSatisfy { !$0.downloadable })
        await recorder.tidy()
        #expect(!FileManager.default.fileExists(atPath: file.path))
        await StageWorker(recorder: recorder).runUntilEmpty()
        let after = try await recorder.renditions(of: id, as: made.principal("A"))
        #expect(!after.isEmpty && after.allSatisfy { $0.downloadable && $0.contains == [made.people["A"]!] })
        #expect(try await recorder.consent(on: id, as: bert).people.map(\.erasureWaits) == [nil])
        await recorder.shutDown()
    }

    @Test("Art. 18: a wall clock that is set forward ends no restriction: nothing is read, and what waits for its end is destroyed only when the clock has stayed there")
    func clockJump() async throws {
        let machine = Machine()
        let rights = try Rights { $0.clock = machine.clock }
        let recorder = rights.recorder
        let made = try await rights.imported(["A": [.audio], "B": [.audio]])
        let (id, anna) = (made.id, made.principal("A"))
        _ = try await recorder.control(id, .release, as: rights.moderator)
        let rendition = try #require(try await recorder.renditions(of: id, as: anna).first { $0.downloadable })
        let placed = try await recorder.restrict(id, RestrictionRequest(reason: .legalClaims, until: (recorder.clock.now + .seconds(10 * 86_400)).seconds), as: rights.moderator)
        _ = try await recorder.decide(ConsentRequest(decision: .withdrawn), on: id, as: made.principal("B"))
        let keys = try await recorder.keys.ids(below: id)
        machine.set(forward: 11 * 86_400)
        #expect(recorder.clock.now.seconds > placed.until)
        await recorder.tidy()
        #expect(await Rights.code { try await recorder.download(rendition.id, as: anna) } == .restricted)
        #expect(try await recorder.recording(id, as: anna).restriction?.until == placed.until)
        #expect(await Rights.code { try await recorder.control(id, .erase, as: rights.moderator) } == .restricted)
        #expect(try await recorder.keys.ids(below: id) == keys)
        machine.goOn(1_801)
        await recorder.tidy()
        #expect(try await recorder.recording(id, as: anna).restriction == nil)
        #expect(try await recorder.keys.ids(below: id).count < keys.count)
        await recorder.shutDown()
    }

    /// A machine whose wall clock can be set.
    private final class Machine: Sendable {
        private let state = Mutex((wall: Int64(Date().timeIntervalSince1970), steady: Int64(5_000)))
        func goOn(_ seconds: Int64) { state.withLock { $0 = ($0.wall + seconds, $0.steady + seconds) } }
        func set(forward seconds: Int64) { state.withLock { $0.wall += seconds } }
        var clock: ServiceClock {
            ServiceClock(isMovable: true) { [self] in state.withLock { ServiceClock.Reading(wall: WallTime(nanoseconds: $0.wall * 1_000_000_000), steady: .seconds($0.steady)) } }
        }
    }

    @Test("Art. 18: every gate of a running recording is closed while it is restricted")
    func gates() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: rights.moderator).token)
        let stream = StreamRequest(participants: [anna.participant!], kind: .audio, sdp: "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n")
        let id = try await recorder.createRecording(RecordingRequest(streams: [stream]), in: meeting, as: rights.moderator).id
        let notice = try await recorder.notice(for: id, language: .en, as: anna)
        func give() async throws { _ = try await recorder.decide(ConsentRequest(decision: .given, notice: notice.hash), on: id, as: anna) }
        func open() async throws -> [Bool] { try await recorder.recording(id, as: rights.moderator).streams.map(\.recording) }
        try await give()
        #expect(try await open() == [true])
        _ = try await hold(id, days: 1)
        #expect(try await open() == [false])
        try await give()
        await recorder.tidy()
        #expect(try await open() == [false])
        try recorder.clock.advance(by: .seconds(86_401))
        await recorder.tidy()
        #expect(try await open() == [true])
        await recorder.shutDown()
    }

    @Test("Art. 18: whoever is in it restricts it by themself, for a month and once, and ends it; the others do not")
    func own() async throws {
        let made = try await rights.imported(["A": [.audio]], isMade: false)
        let (anna, bert) = (made.principal("A"), made.principal("B"))
        func ask(_ who: Principal, days: Int64 = 31, for participant: ParticipantID? = nil) async throws -> RestrictionView {
            try await recorder.restrict(made.id, RestrictionRequest(reason: .objection, until: until(days: days) - 1, participant: participant), as: who)
        }
        #expect(await Rights.code { try await ask(anna, days: 33) } == .invalid)
        #expect(await Rights.code { try await ask(anna, for: bert.participant) } == .forbidden)
        let stranger = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Eve"), to: made.meeting, as: rights.moderator).token)
        #expect(await Rights.code { try await ask(stranger) } == .forbidden)
        #expect(try await ask(anna).participant == anna.participant)
        #expect(await Rights.code { try await ask(bert) } == .conflict)
        #expect(await Rights.code { try await recorder.lift(made.id, as: bert) } == .forbidden)
        try await recorder.lift(made.id, as: anna)
        #expect(await Rights.code { try await ask(anna) } == .conflict)
        #expect(try await ask(bert).until > recorder.clock.now.seconds)
        // Who answers for it prolongs it.
        _ = try await hold(made.id, days: 90)
        #expect(await Rights.code { try await recorder.lift(made.id, as: bert) } == .forbidden)
        await recorder.shutDown()
    }

    @Test("who places a restriction, and until when, is limited")
    func limits() async throws {
        let made = try await rights.imported(["A": [.audio]], isMade: false)
        #expect(await Rights.code { try await hold(made.id, as: Principal(role: .platform, subject: "platform")) } == .forbidden)
        for days: Int64 in [-1, 0, 4 * 365] { #expect(await Rights.code { try await hold(made.id, days: days) } == .invalid) }
        #expect(await Rights.code { try await recorder.restrict(made.id, RestrictionRequest(reason: .objection, until: until(days: 1), participant: .random()), as: rights.moderator) } == .invalid)
        #expect(await Rights.code { try await hold(.random()) } == .notFound)
        // A second one takes the place of the first.
        _ = try await hold(made.id, days: 10)
        let second = try await hold(made.id, days: 2)
        #expect(try await recorder.restriction(of: made.id, as: made.principal("A")).until == second.until)
        #expect(try await recorder.catalog.read { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM restriction WHERE settled_at IS NULL") } == 1)
        await recorder.shutDown()
    }
}
