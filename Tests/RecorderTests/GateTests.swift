import Catalog
import CLinux
import Consent
import Foundation
import Glibc
import GRDB
import Media
import PacketLog
@testable import Recorder
import Renditions
import Synchronization
import Tap
import TestSupport
import Testing
import Truth

/// The gate fails closed, whatever happens to the stores, the network and the people; packets come over loopback.
@Suite("The gate", .serialized)
struct GateTests {
    let rights: Rights
    var recorder: Recorder { rights.recorder }
    init() throws { rights = try Rights() }

    static func sdp(_ place: Int, payloadType: Int = 111) -> String { "v=0\nm=audio \(5004 + 2 * place) RTP/AVP \(payloadType)\na=rtpmap:\(payloadType) opus/48000/2\na=rtcp-mux\n" }

    private func invited(_ meeting: MeetingID, minor: Bool = false) async throws -> Principal {
        try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna", minor: minor), to: meeting, as: rights.moderator).token)
    }

    private struct Made {
        var id: RecordingID
        var people: [Principal]
        var view: RecordingView
        var meeting: MeetingID
    }

    /// A recording with a stream for each list of people, by their numbers.
    private func made(_ count: Int, streams: [[Int]]) async throws -> Made {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        var people: [Principal] = []
        for _ in 0..<count { people.append(try await invited(meeting)) }
        let view = try await recorder.createRecording(RecordingRequest(pipeline: "audio-only", streams: streams.enumerated().map { place, who in
            StreamRequest(participants: who.map { people[$0].participant! }, kind: .audio, sdp: Self.sdp(place))
        }), in: meeting, as: rights.moderator)
        return Made(id: view.id, people: people, view: view, meeting: meeting)
    }

    private func decide(_ decision: ConsentRequest.Decision, _ made: Made, _ person: Int, purposes: [Purpose]? = nil, erase: Bool = false) async throws {
        let who = made.people[person]
        let notice = try await recorder.notice(for: made.id, language: .de, as: who)
        _ = try await recorder.decide(ConsentRequest(decision: decision, purposes: purposes, notice: notice.hash, erase: erase), on: made.id, as: who)
    }

    private func open(_ made: Made) async throws -> [Bool] { try await recorder.recording(made.id, as: rights.moderator).streams.map(\.recording) }

    /// Until the gates are so; consents are confirmed meanwhile if asked.
    private func becomes(_ made: Made, _ wanted: [Bool], confirming: Bool = false) async throws -> Bool {
        for _ in 0..<1_500 {
            if confirming { await recorder.confirmConsents() }
            if try await open(made) == wanted { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }

    private func send(_ payload: [UInt8], _ count: Int = 1, from first: Int = 0, payloadType: UInt8 = 111, ssrc: UInt32 = 7, to stream: StreamView) {
        var target = sockaddr_storage()
        let length = clinux_socket_address("127.0.0.1", UInt16(stream.endpoint?.rtpPort ?? 0), &target)
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        for number in first..<first + count {
            let packet = rtp(UInt16(number), UInt32(number * 960), payloadType: payloadType, ssrc: ssrc, payload: payload)
            withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(descriptor, packet, packet.count, 0, $0, length) } }
        }
        close(descriptor)
    }

    private func counted(_ made: Made, _ place: Int, until done: (StreamView) -> Bool) async throws -> StreamView {
        var stream = try await recorder.recording(made.id, as: rights.moderator).streams[place]
        for _ in 0..<1_500 where !done(stream) {
            try await Task.sleep(for: .milliseconds(10))
            stream = try await recorder.recording(made.id, as: rights.moderator).streams[place]
        }
        return stream
    }

    private func kept(_ made: Made, _ place: Int) async throws -> [TrackRecord] {
        let stream = try await recorder.catalog.read { try $0.streams(of: made.id.rawValue)[place].stream }
        let track = TrackID(rawValue: stream.track)!
        let folder = recorder.configuration.trackFolder(made.id.rawValue, stream.track).path
        let segments = try TrackLogFolder.segments(folder).map { TrackLogReader.Segment(number: $0, descriptor: Glibc.open("\(folder)/\(TrackLogFiles.segment($0))", O_RDONLY)) }
        defer { for segment in segments { close(segment.descriptor) } }
        let reader = TrackLogReader(segments: segments, identity: TrackLogIdentity(recording: made.id, track: track, kind: .audio), key: try await recorder.keys.key(KeyStore.track(track)))
        var records: [TrackRecord] = []
        while let record = try reader.next() { records.append(record) }
        return records
    }

    /// Holds the catalog's write lock, as a stuck process would, until `body` is over.
    private func whileLocked(_ body: () async throws -> Void) async throws {
        var configuration = Configuration()
        configuration.allowsUnsafeTransactions = true
        let other = try DatabaseQueue(path: rights.data.appending(path: "catalog.sqlite").path, configuration: configuration)
        try await other.writeWithoutTransaction { try $0.execute(sql: "BEGIN IMMEDIATE") }
        do { try await body() } catch {
            try await other.writeWithoutTransaction { try $0.execute(sql: "ROLLBACK") }
            throw error
        }
        try await other.writeWithoutTransaction { try $0.execute(sql: "ROLLBACK") }
        try other.close()
    }

    @Test("consent store locked: nothing opens, a withdrawal that cannot be stored closes at once and stays; open gates close; all is made good afterwards")
    func locked() async throws {
        let made = try await made(3, streams: [[0], [1], [2]])
        try await decide(.given, made, 0)
        try await decide(.given, made, 1)
        #expect(try await open(made) == [true, true, false])
        let notice = try await recorder.notice(for: made.id, language: .de, as: made.people[0]).hash
        try await whileLocked {
            // All three at once: each waits as long as the database has patience.
            async let withdrawal = Rights.code { try await recorder.decide(ConsentRequest(decision: .withdrawn, erase: false), on: made.id, as: made.people[0]) }
            // The gate is closed while the withdrawal still waits for the store.
            let isClosed = try await becomes(made, [false, true, false])
            #expect(isClosed)
            #expect(await withdrawal == .storage)
            _ = await #expect(throws: (any Error).self) { try await recorder.decide(ConsentRequest(decision: .given, notice: notice), on: made.id, as: made.people[2]) }
            await recorder.confirmConsents()
            #expect(try await open(made) == [false, false, false])
        }
        #expect(try await becomes(made, [false, true, false], confirming: true))
        #expect(try await recorder.catalog.read { try $0.consentEvents(of: made.id).map(\.kind) } == [.given, .given, .withdrawn])
        try await decide(.given, made, 0)
        #expect(try await open(made) == [true, true, false])
        await recorder.shutDown()
    }

    @Test("a withdrawal that was never stored holds over a restart: the ledger knew it")
    func unstoredOverRestart() async throws {
        let made = try await made(2, streams: [[0], [1]])
        try await decide(.given, made, 0)
        try await decide(.given, made, 1)
        try await whileLocked { #expect(await Rights.code { try await recorder.decide(ConsentRequest(decision: .withdrawn, erase: false), on: made.id, as: made.people[0]) } == .storage) }
        await recorder.shutDown()
        let again = try Rights.recorder(rights.data)
        try await again.recover()
        #expect(try await again.recording(made.id, as: rights.moderator).streams.map(\.recording) == [false, true])
        let last = try #require(try await again.catalog.read { try $0.consentEvents(of: made.id).last })
        #expect((last.kind, last.method, last.asksErasure) == (.withdrawn, .onBehalf, false))
        await again.shutDown()
    }

    @Test("database file gone while it runs: every gate closes, a decision is refused, a withdrawal closes its gate")
    func fileGone() async throws {
        let made = try await made(2, streams: [[0], [1]])
        try await decide(.given, made, 0)
        try await decide(.given, made, 1)
        let file = rights.data.appending(path: "catalog.sqlite").path
        #expect(rename(file, file + ".away") == 0)
        #expect(await Rights.code { try await recorder.decide(ConsentRequest(decision: .withdrawn), on: made.id, as: made.people[0]) } == .storage)
        #expect(try await open(made) == [false, true])
        await recorder.confirmConsents()
        #expect(try await open(made) == [false, false])
        await #expect(throws: (any Error).self) { try await decide(.given, made, 1) }
        // Another file in its place is not the one that was opened either.
        try FileManager.default.copyItem(atPath: file + ".away", toPath: file)
        await recorder.confirmConsents()
        #expect(try await open(made) == [false, false])
        #expect(rename(file + ".away", file) == 0)
        await recorder.confirmConsents()
        #expect(try await open(made) == [false, true])
        await recorder.shutDown()
    }

    @Test("a broken history closes the gates of its own recording and of no other")
    func brokenHistory() async throws {
        let (broken, whole) = (try await made(1, streams: [[0]]), try await made(1, streams: [[0]]))
        for made in [broken, whole] { try await decide(.given, made, 0) }
        try await recorder.catalog.write { db in
            for name in try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'consent_event'") { try db.execute(sql: "DROP TRIGGER \(name)") }
            try db.execute(sql: "UPDATE consent_event SET event = replace(event, 'audio', 'adieu') WHERE recording = ?", arguments: [broken.id.rawValue])
        }
        await recorder.confirmConsents()
        #expect(try await (open(broken), open(whole)) == ([false], [true]))
        await recorder.shutDown()
    }

    @Test("worker restarted: gates are closed until consents are read, and then open for those alone who gave one")
    func restarted() async throws {
        let made = try await made(2, streams: [[0], [1]])
        try await decide(.given, made, 0)
        await recorder.shutDown()
        let again = try Rights.recorder(rights.data)
        try await again.recover()
        #expect(try await again.recording(made.id, as: rights.moderator).streams.map(\.recording) == [true, false])
        await again.shutDown()
        // And where they cannot be read nothing opens, nor does the server start.
        try await recorder(broken: made.id)
        let third = try Rights.recorder(rights.data)
        await #expect(throws: (any Error).self) { try await third.recover() }
        #expect(third.live.withLock { $0.values.allSatisfy { $0.snapshot.open.isEmpty } })
        await third.shutDown()
    }

    private func recorder(broken id: RecordingID) async throws {
        let queue = try DatabaseQueue(path: rights.data.appending(path: "catalog.sqlite").path)
        try await queue.write { db in
            for name in try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'consent_event'") { try db.execute(sql: "DROP TRIGGER \(name)") }
            try db.execute(sql: "UPDATE consent_event SET event = replace(event, 'audio', 'adieu')")
        }
        try queue.close()
    }

    @Test("unknown senders: another payload type, another SSRC at a shared port and what was never announced are not kept")
    func unknown() async throws {
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let people = [try await invited(meeting), try await invited(meeting)]
        // Two streams at one port, told apart by the SSRCs that were announced.
        let view = try await recorder.createRecording(RecordingRequest(streams: (0..<2).map { place in
            StreamRequest(participants: [people[place].participant!], kind: .audio, sdp: Self.sdp(0) + "a=ssrc:\(place + 1) cname:x\n")
        }), in: meeting, as: rights.moderator)
        let made = Made(id: view.id, people: people, view: view, meeting: meeting)
        try await decide(.given, made, 0)
        let marker: [UInt8] = Array("stranger's voice".utf8)
        send(marker, 20, ssrc: 3, to: view.streams[0])
        send(marker, 20, ssrc: 2, to: view.streams[0])
        send(marker, 20, payloadType: 96, ssrc: 1, to: view.streams[0])
        send([1, 2, 3], 5, ssrc: 1, to: view.streams[0])
        #expect(try await counted(made, 0) { $0.packets == 5 }.packets == 5)
        #expect(try await counted(made, 1) { $0.droppedByGate == 20 }.packets == 0)
        _ = try await recorder.control(view.id, .stop, as: rights.moderator)
        let first = try await kept(made, 0)
        #expect(first.allSatisfy { if case .rtp(_, let bytes) = $0 { !bytes.suffix(marker.count).elementsEqual(marker) } else { true } })
        #expect(first.count { if case .rtp = $0 { true } else { false } } == 5)
        await recorder.shutDown()
    }

    @Test("silence, a time-out, a request without an answer and keys pressed in a call mean no")
    func silence() async throws {
        let made = try await made(1, streams: [[0]])
        // Digits of a telephone-event (RFC 4733), whatever they are, in a payload type that nobody announced.
        for digit in [1, 2, 11] as [UInt8] { send([digit, 0x80, 0, 160], 10, payloadType: 101, to: made.view.streams[0]) }
        send([1, 2, 3], 10, to: made.view.streams[0])
        #expect(try await counted(made, 0) { $0.droppedByGate == 10 && $0.malformed == 30 }.packets == 0)
        try recorder.clock.advance(by: .seconds(86_400))
        await recorder.confirmConsents()
        #expect(try await open(made) == [false])
        _ = try await recorder.control(made.id, .stop, as: rights.moderator)
        #expect(try await kept(made, 0).isEmpty)
        await recorder.shutDown()
    }

    @Test("re-join: whoever comes back inherits nothing, is asked again, and what they said holds for what was recorded before")
    func rejoin() async throws {
        let made = try await made(2, streams: [[0], [1]])
        for person in 0..<2 { try await decide(.given, made, person) }
        let presence = { (stream: Int, present: Bool) in PresenceRequest(stream: made.view.streams[stream].id, participant: made.people[0].participant!, present: present) }
        send([1], 3, to: made.view.streams[0])
        _ = try await counted(made, 0) { $0.packets == 3 }
        _ = try await recorder.notePresence(presence(0, false), in: made.id, as: rights.moderator)
        #expect(try await open(made) == [false, true])
        _ = try await recorder.notePresence(presence(0, true), in: made.id, as: rights.moderator)
        await recorder.confirmConsents()
        #expect(try await open(made) == [false, true])
        let asked = try await recorder.consent(on: made.id, as: made.people[0]).people[0]
        #expect((asked.decision, asked.recorded, asked.asksAgain) == ("given", false, true))
        send([2], 3, from: 3, to: made.view.streams[0])
        #expect(try await counted(made, 0) { $0.droppedByGate == 3 }.packets == 3)
        try await decide(.given, made, 0)
        #expect(try await open(made) == [true, true])
        #expect(try await recorder.consent(on: made.id, as: made.people[0]).people[0].asksAgain == nil)
        #expect(try await recorder.catalog.read { try $0.consentEvents(of: made.id).map(\.kind) } == [.given, .given, .requested, .given])
        #expect(await Rights.code { try await recorder.notePresence(presence(0, false), in: made.id, as: made.people[0]) } == .forbidden)
        await recorder.shutDown()
    }

    @Test("a mix pauses by itself when somebody joins it or withdraws, and goes on when all have consented or they left")
    func mix() async throws {
        let made = try await made(3, streams: [[0, 1]])
        func note(_ person: Int, _ present: Bool) async throws {
            _ = try await recorder.notePresence(PresenceRequest(stream: made.view.streams[0].id, participant: made.people[person].participant!, present: present), in: made.id, as: rights.moderator)
        }
        try await decide(.given, made, 0)
        #expect(try await open(made) == [false])
        try await decide(.given, made, 1)
        #expect(try await open(made) == [true])
        try await note(2, true)
        #expect(try await open(made) == [false])
        try await note(2, false)
        #expect(try await open(made) == [true])
        // Who was never in it while it was recorded is in nothing of it, and decides about nothing of it.
        let recorded = try await recorder.catalog.read { try $0.streams(of: made.id.rawValue, recordedOnly: true)[0].participants }
        #expect(Set(recorded) == Set(made.people.prefix(2).map { $0.participant!.rawValue }))
        try await note(2, true)
        try await decide(.refused, made, 2)
        #expect(try await open(made) == [false])
        try await decide(.given, made, 2)
        #expect(try await open(made) == [true])
        try await decide(.withdrawn, made, 1)
        #expect(try await open(made) == [false])
        try await note(1, false)
        #expect(try await open(made) == [true])
        await recorder.shutDown()
    }

    @Test("a yes after the end puts nobody into what was recorded, and a withdrawal of theirs takes nothing of the others")
    func tooLate() async throws {
        let made = try await made(2, streams: [[0]])
        try await decide(.given, made, 0)
        send([0x78, 1, 2, 3], 3, to: made.view.streams[0])
        _ = try await counted(made, 0) { $0.packets == 3 }
        let joined = PresenceRequest(stream: made.view.streams[0].id, participant: made.people[1].participant!, present: true)
        _ = try await recorder.notePresence(joined, in: made.id, as: rights.moderator)
        _ = try await recorder.control(made.id, .stop, as: rights.moderator)
        try await decide(.given, made, 1)
        let recorded = try await recorder.catalog.read { try $0.streams(of: made.id.rawValue, recordedOnly: true)[0].participants }
        #expect(recorded == [made.people[0].participant!.rawValue])
        try await decide(.withdrawn, made, 1, erase: true)
        #expect(try await recorder.catalog.read { try $0.streams(of: made.id.rawValue)[0].stream.verdict } != "erased")
        #expect(try await kept(made, 0).count { if case .rtp = $0 { true } else { false } } == 3)
        await recorder.shutDown()
    }

    @Test("Art. 5(1)(b): consent for minutes only makes nothing that could be given out, on every path: stop, again, release, import")
    func minutesOnly() async throws {
        let made = try await made(1, streams: [[0]])
        try await decide(.given, made, 0, purposes: [.minutes])
        send([0x78, 1, 2, 3], 50, to: made.view.streams[0])
        _ = try await counted(made, 0) { $0.packets == 50 }
        func planned() async throws -> Set<String> {
            try await recorder.catalog.read { Set(try String.fetchAll($0, sql: "SELECT name FROM job WHERE owner = ?", arguments: [made.id.rawValue]).map { String($0.split(separator: "/")[0]) }) }
        }
        _ = try await recorder.control(made.id, .stop, as: rights.moderator)
        #expect(try await planned() == ["tracks"])
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await recorder.recording(made.id, as: rights.moderator).state == .ready)
        _ = try await recorder.control(made.id, .release, as: rights.moderator)
        try await recorder.makeAgain(made.id)
        _ = try await recorder.rename(made.people[0].participant!, NameRequest(name: "Anne"), as: made.people[0])
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await planned() == ["tracks"])
        #expect(try await recorder.renditions(of: made.id, as: made.people[0]).isEmpty)
        #expect(await Rights.code { try await recorder.grant(GrantRequest(), on: made.id, as: made.people[0]) } == .notConsented)
        await recorder.shutDown()
    }

    @Test("a pipeline that publishes is no recording's: publication is asked for later, in an act of its own")
    func publishing() async throws {
        let text = try String(contentsOf: Checkout.pipelines.appending(path: "audio-only.yaml"), encoding: .utf8).replacing("share-with-participants", with: "publication")
        let recorder = try Recorder(Rights.configuration(rights.folder.url.appending(path: "other")), pipelines: ["publish": Pipeline(parsing: text)], logger: Rights.logger)
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: rights.moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: rights.moderator).token)
        let request = RecordingRequest(pipeline: "publish", streams: [StreamRequest(participants: [anna.participant!], kind: .audio, sdp: Self.sdp(0))])
        #expect(await Rights.code { try await recorder.createRecording(request, in: meeting, as: rights.moderator) } == .invalid)
        let capture = Checkout.fixtures.appending(path: "vp8-lipsync.pcap")
        let stream = try CaptureTruth(capture: capture).streams[0]
        let kind = MediaKind(rawValue: stream.kind)!
        let imported = try await recorder.importCaptures(ImportRequest(pipeline: "publish", captures: [capture.path], people: [.init(key: "A", name: "A", modalities: [.audio, .video])],
                                                                       streams: [.init(people: ["A"], kind: kind, sdp: stream.sdp)])) { _ in }
        let jobs = try await recorder.catalog.read { try String.fetchAll($0, sql: "SELECT name FROM job") }
        #expect(jobs.allSatisfy { $0.hasPrefix("tracks/") } && imported.streams.count == 1)
        await recorder.shutDown()
    }

    @Test("who allows less than before is taken out of what they no longer allow, and what is still allowed is made again")
    func narrower() async throws {
        let made = try await rights.imported(["A": [.audio, .video], "B": [.audio, .video]], pipeline: "meeting")
        func kinds() async throws -> [String: Int] {
            Dictionary(try await recorder.renditions(of: made.id, as: rights.moderator).map { ($0.kind, $0.contains.count) }) { max($0, $1) }
        }
        #expect(try await kinds() == ["mix": 2, "composite": 2, "waveform": 2, "thumbnail": 2])
        let bert = made.principal("B")
        let notice = try await recorder.notice(for: made.id, language: .de, as: bert).hash
        let before = try await recorder.renditions(of: made.id, as: rights.moderator)
        _ = try await recorder.decide(ConsentRequest(decision: .given, modalities: [.video], notice: notice), on: made.id, as: bert)
        for rendition in before { #expect(await Rights.code { try await recorder.keys.key(KeyStore.rendition(rendition.id)) } == nil) }
        await #expect(throws: KeyStore.Missing.self) { try await recorder.keys.key(KeyStore.rendition(before[0].id)) }
        await StageWorker(recorder: recorder).runUntilEmpty()
        #expect(try await kinds() == ["mix": 1, "composite": 2, "waveform": 1, "thumbnail": 2])
        await recorder.shutDown()
    }

    @Test("no packet that arrives after the answer to a withdrawal is kept, with many streams running, and no neighbour's is lost to it")
    func manyStreams() async throws {
        let count = 40
        let made = try await made(count, streams: (0..<count).map { [$0] })
        for person in 0..<count { try await decide(.given, made, person) }
        let flag = Flag()
        let streams = made.view.streams
        // All streams' packets, one after the other and without a pause.
        async let flood: Void = BlockingWork.onThread(named: "flood") {
            var number = 0
            while !flag.isOver.load(ordering: .acquiring) {
                for stream in streams { send([9, 9, 9], 1, from: number & 0xFFFF, to: stream) }
                number += 1
                usleep(2_000)
            }
        }
        _ = try await counted(made, count - 1) { $0.packets > 20 }
        var answers: [Int: WallTime] = [:]
        for person in stride(from: 0, to: count, by: 4) {
            try await decide(.withdrawn, made, person)
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            answers[person] = WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
        }
        let before = try await counted(made, 1) { _ in true }.packets
        _ = try await counted(made, 1) { $0.packets > before + 20 }
        flag.isOver.store(true, ordering: .releasing)
        try await flood
        _ = try await recorder.control(made.id, .stop, as: rights.moderator)
        for place in 0..<count {
            let arrivals = try await kept(made, place).compactMap { record -> WallTime? in if case .rtp(let arrival, _) = record { arrival } else { nil } }
            #expect(arrivals.count > 20)
            if let answer = answers[place] { #expect(arrivals.allSatisfy { $0 <= answer }) } else { #expect(arrivals.contains { $0 > answers.values.max()! }) }
        }
        await recorder.shutDown()
    }

    private final class Flag: Sendable { let isOver = Atomic(false) }
}
