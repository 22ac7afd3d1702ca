import Consent
import Foundation
import Media
import Testing

@Suite("Notice and evidence")
struct NoticeTests {
    @Test("a server that nobody configured shows a notice in one language, not in two")
    func defaults() {
        let german = Notice(language: "de", policy: RetentionPolicy(), days: 90).text
        for english in ["the ", "your ", "this "] { #expect(!german.contains(english), "\(english)") }
        var policy = RetentionPolicy()
        policy.controller = "Frauenselbsthilfe e. V., Bonn"
        #expect(Notice(language: "de", policy: policy, days: 90).text.contains("Frauenselbsthilfe e. V., Bonn"))
    }

    @Test("Art. 12, 13: the version changes with the text, and is the same in both languages")
    func version() {
        var policy = RetentionPolicy()
        func version(_ language: String, days: Int = 90) -> String { Notice(language: language, policy: policy, days: days).version }
        let before = version("de")
        #expect(before == version("en"))
        #expect(before != version("de", days: 30))
        policy.supervisoryAuthority = "LfDI"
        #expect(before != version("de"))
        #expect(version("de") == version("en"))
    }

    @Test("one day is one day")
    func singular() {
        #expect(Notice(language: "de", policy: RetentionPolicy(), days: 1).text.contains("Wie lange: 1 Tag."))
        #expect(Notice(language: "en", policy: RetentionPolicy(), days: 1).text.contains("How long: 1 day."))
    }

    @Test("the canonical form is pinned: another encoder may not break old chains")
    func canonical() {
        let event = ConsentEvent(
            sequence: 1, recording: RecordingID(rawValue: "r")!, participant: ParticipantID(rawValue: "p")!, kind: .given, occurredAt: WallTime(nanoseconds: 1),
            receivedAt: WallTime(nanoseconds: 2), modalities: [.audio, .video], purposes: [.shareWithParticipants], noticeHash: "n/ä", noticeVersion: "1", language: "de",
            method: .click, isOwnAct: true, isGuardian: false, retentionClass: "recording", expiresAt: WallTime(nanoseconds: 3), asksErasure: false, previousHash: "")
        #expect(String(decoding: event.canonicalJSON(), as: UTF8.self) == #"{"asksErasure":false,"expiresAt":3,"isGuardian":false,"isOwnAct":true,"kind":"given","#
            + #""language":"de","method":"click","modalities":["audio","video"],"noticeHash":"n/ä","noticeVersion":"1","occurredAt":1,"participant":"p","previousHash":"","#
            + #""purposes":["share-with-participants"],"receivedAt":2,"recording":"r","retentionClass":"recording","schema":1,"sequence":1}"#)
        #expect((try? JSONDecoder().decode(ConsentEvent.self, from: event.canonicalJSON())) == event)
    }

    @Test("a guardian speaks for a declared minor only; for an adult nobody does")
    func guardianOfAnAdult() throws {
        let (recording, anna) = (RecordingID(rawValue: "r")!, ParticipantID(rawValue: "a")!)
        var event = ConsentEvent(
            sequence: 1, recording: recording, participant: anna, kind: .given, occurredAt: WallTime(nanoseconds: 1), receivedAt: WallTime(nanoseconds: 1),
            modalities: [.audio], purposes: [.minutes], noticeHash: "n", noticeVersion: "1", language: "de", method: .click, isOwnAct: false, isGuardian: true,
            retentionClass: "recording", expiresAt: WallTime(nanoseconds: 9), asksErasure: false, previousHash: "")
        var adult = ConsentState(recording: recording)
        #expect(throws: ConsentError.givenByAnother) { try adult.apply(event) }
        var minor = ConsentState(recording: recording, minors: [anna])
        try minor.apply(event)
        #expect(minor.mayRecord([anna], .audio, at: WallTime(nanoseconds: 2)))
        event.isGuardian = false
        var other = ConsentState(recording: recording, minors: [anna])
        #expect(throws: ConsentError.givenByAnother) { try other.apply(event) }
    }
}
