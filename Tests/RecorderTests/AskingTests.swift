import Catalog
import Consent
import Foundation
import Media
@testable import Recorder
import TestSupport
import Testing

@Suite("Who may say yes, and to what text", .serialized)
struct AskingTests {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    init() throws { rights = try Rights() }

    private static let audio = "v=0\nm=audio 5004 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n"

    private func invited(minor: Bool = false, in meeting: MeetingID) async throws -> Principal {
        try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna", minor: minor), to: meeting, as: rights.moderator).token)
    }

    private func recording(_ people: [Principal], in meeting: MeetingID) async throws -> RecordingID {
        let streams = people.enumerated().map { place, who in
            StreamRequest(participants: [who.participant!], kind: .audio, sdp: Self.audio.replacing("5004", with: "\(5004 + 4 * place)"))
        }
        return try await recorder.createRecording(RecordingRequest(streams: streams), in: meeting, as: rights.moderator).id
    }

    private func decide(_ decision: ConsentRequest.Decision, _ id: RecordingID, _ who: Principal, for participant: ParticipantID? = nil, method: ConsentEvent.Method? = nil) async throws {
        let notice = try await recorder.notice(for: id, language: .de, as: who)
        _ = try await recorder.decide(ConsentRequest(decision: decision, participant: participant, notice: notice.hash, method: method, erase: false), on: id, as: who)
    }

    private func open(_ id: RecordingID, _ recorder: Recorder) async throws -> [Bool] { try await recorder.recording(id, as: rights.moderator).streams.map(\.recording) }

    @Test("Art. 12, 13: another configuration, another notice: whoever said yes to the older text is asked again, whoever withdrew stays withdrawn")
    func changedNotice() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let (anna, bert) = (try await invited(in: meeting), try await invited(in: meeting))
        let id = try await recording([anna, bert], in: meeting)
        try await decide(.given, id, anna)
        try await decide(.withdrawn, id, bert)
        #expect(try await open(id, recorder) == [true, false])
        await recorder.shutDown()
        // The same text: nothing is asked.
        let same = try Rights.recorder(rights.data)
        try await same.recover()
        #expect(try await open(id, same) == [true, false])
        await same.shutDown()
        var configuration = Rights.configuration(rights.data)
        configuration.retention.controller = "Another association"
        let changed = try Recorder(configuration, logger: Rights.logger)
        try await changed.recover()
        #expect(try await open(id, changed) == [false, false])
        #expect(try await changed.consent(on: id, as: rights.moderator).people.map(\.decision) == ["invalidated", "withdrawn"])
        await changed.tidy()
        #expect(try await open(id, changed) == [false, false])
        let notice = try await changed.notice(for: id, language: .en, as: anna)
        #expect(notice.text.contains("Another association"))
        _ = try await changed.decide(ConsentRequest(decision: .given, notice: notice.hash), on: id, as: anna)
        #expect(try await open(id, changed) == [true, false])
        #expect(try await changed.catalog.read { try $0.consentEvents(of: id).map(\.kind) } == [.given, .withdrawn, .invalidated, .given])
        await changed.shutDown()
    }

    @Test("Art. 8: a declared minor is recorded after a guardian's yes with the guardian's own code, and their own no counts at once")
    func guardian() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let (kim, adult) = (try await invited(minor: true, in: meeting), try await invited(in: meeting))
        let id = try await recording([kim], in: meeting)
        #expect(await Rights.code { try await decide(.given, id, kim) } == .forbidden)
        #expect(await Rights.code { try await recorder.inviteGuardian(of: adult.participant!, as: rights.moderator) } == .conflict)
        #expect(await Rights.code { try await recorder.inviteGuardian(of: kim.participant!, as: kim) } == .forbidden)
        let guardian = try await recorder.authenticate(token: recorder.inviteGuardian(of: kim.participant!, as: rights.moderator).token)
        #expect(guardian.isGuardian && guardian.participant == kim.participant && guardian.subject != kim.subject)
        try await decide(.given, id, guardian)
        #expect(try await open(id, recorder) == [true])
        let event = try #require(try await recorder.catalog.read { try $0.consentEvents(of: id).last })
        #expect(event.isGuardian && !event.isOwnAct && event.method == .click)
        try await decide(.withdrawn, id, kim)
        #expect(try await open(id, recorder) == [false])
        await recorder.shutDown()
    }

    @Test("Art. 6, 9: a platform passes on a yes only where it says that it asked the person, never for a minor; a moderator never does")
    func platform() async throws {
        let platform = Principal(role: .platform, subject: "platform")
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let (anna, kim) = (try await invited(in: meeting), try await invited(minor: true, in: meeting))
        let id = try await recording([anna, kim], in: meeting)
        #expect(await Rights.code { try await decide(.given, id, platform, for: anna.participant) } == .forbidden)
        for method in ConsentEvent.Method.allCases where method != .platform { #expect(await Rights.code { try await decide(.given, id, platform, for: anna.participant, method: method) } == .forbidden) }
        #expect(await Rights.code { try await decide(.given, id, rights.moderator, for: anna.participant, method: .platform) } == .forbidden)
        #expect(await Rights.code { try await decide(.given, id, anna, method: .platform) } == .forbidden)
        #expect(await Rights.code { try await decide(.given, id, platform, for: kim.participant, method: .platform) } == .forbidden)
        #expect(try await open(id, recorder) == [false, false])
        try await decide(.given, id, platform, for: anna.participant, method: .platform)
        #expect(try await open(id, recorder) == [true, false])
        let event = try #require(try await recorder.catalog.read { try $0.consentEvents(of: id).last })
        #expect(event.isOwnAct && event.method == .platform)
        await recorder.shutDown()
    }
}
