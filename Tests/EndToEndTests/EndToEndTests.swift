import Foundation
import Glibc
import TestSupport
import Testing
import Truth

/// The programs as they are shipped, on the captured traffic of a real conference.
@Suite("The main job", .serialized)
struct EndToEndTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(filePath: Checkout.program("mitschnitt"))
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }

    private func description(_ name: String, consent: [String: [String]], extra: [[String: Any]] = []) throws -> String {
        let capture = Checkout.fixtures.appending(path: "\(name).pcap")
        let truth = try CaptureTruth(capture: capture)
        let people = ["A", "B", "C"].map { id in
            ["id": id, "name": "Person \(id)", "consent": ["audio": consent[id]?.contains("audio") ?? false, "video": consent[id]?.contains("video") ?? false]] as [String: Any]
        }
        let streams = truth.streams.map { ["participant": $0.participant, "kind": $0.kind, "sdp": $0.sdp] as [String: Any] } + extra
        let file = folder.url.appending(path: "description.json")
        try JSONSerialization.data(withJSONObject: ["captures": [capture.path], "participants": people, "streams": streams]).write(to: file)
        return file.path
    }

    private struct Result: Decodable {
        struct Output: Decodable { var file, kind: String; var contains: [String]; var start_wall, duration: Double; var width, height: Int? }
        struct Stream: Decodable { var participant, kind, verdict: String; var packets: Int; var details: [String] }
        var outputs: [Output]
        var streams: [Stream]
    }

    private func render(_ description: String) throws -> Result {
        let (status, output) = try run(["render", "--description", description, "--pipeline", Checkout.pipelines.appending(path: "meeting.yaml").path, "--output", folder.path + "/out"])
        #expect(status == 0, "\(output)")
        return try JSONDecoder().decode(Result.self, from: Data(contentsOf: folder.url.appending(path: "out/result.json")))
    }

    @Test("who consented is seen and heard in sync, who did not is nowhere", arguments: [("vp8", ["A", "B"], "C"), ("vp8-lipsync", ["A", "C"], "B")])
    func judged(name: String, present: [String], absent: String) throws {
        let result = try render(description(name, consent: Dictionary(uniqueKeysWithValues: present.map { ($0, ["audio", "video"]) })))
        let composite = try #require(result.outputs.first { $0.kind == "composite" })
        #expect(composite.contains == present)
        let truth = try CaptureTruth(capture: Checkout.fixtures.appending(path: "\(name).pcap"))
        let file = folder.url.appending(path: "out/\(composite.file)")
        let judgement = try Judgement(file: file, width: 1280, height: 720, frameRate: 25, startWall: composite.start_wall, shift: 0, truth: truth, expected: present, absent: [absent])
        for (letter, person) in judgement.people {
            #expect(person.seen >= 0.99 && person.heard >= 0.99, "\(letter): seen \(person.seen), heard \(person.heard)")
            #expect(person.lipSyncMs.count > 20)
            #expect((person.lipSyncP95 ?? .infinity) <= 40, "\(letter)")
        }
        #expect(judgement.strangersSeen == [absent: 0])
        #expect((judgement.strangersHeardDB[absent] ?? 0) <= -40)
        #expect(abs(judgement.seconds - composite.duration) < 0.1)
        #expect(result.streams.filter { $0.participant == absent }.allSatisfy { $0.packets == 0 && $0.verdict == "not-consented" })
        // Nothing but the results is left.
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/out").allSatisfy { $0.hasPrefix("meeting") || $0 == "result.json" })
        try secondOpinion(file, composite)
    }

    /// ffprobe, which shares no code with ours: playable from the start, H.264 and AAC, no names or dates inside.
    private func secondOpinion(_ file: URL, _ composite: Result.Output) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/ffprobe")
        process.arguments = ["-v", "error", "-show_format", "-show_streams", "-of", "json", file.path]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let data = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        let json = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let streams = try #require(json["streams"] as? [[String: Any]])
        #expect(streams.compactMap { $0["codec_name"] as? String } == ["h264", "aac"])
        #expect(streams.allSatisfy { Double($0["start_time"] as? String ?? "x") == 0 })
        let format = try #require(json["format"] as? [String: Any])
        #expect(abs((Double(format["duration"] as? String ?? "") ?? 0) - composite.duration) < 0.05)
        let tags = (format["tags"] as? [String: String] ?? [:]).keys.sorted()
        #expect(tags.allSatisfy { ["compatible_brands", "major_brand", "minor_version"].contains($0) }, "\(tags)")
        let bytes = try Data(contentsOf: file, options: .mappedIfSafe)
        let (moov, mdat) = (bytes.range(of: Data("moov".utf8)), bytes.range(of: Data("mdat".utf8)))
        #expect(moov.map { moov in mdat.map { moov.lowerBound < $0.lowerBound } ?? false } == true)
        #expect(bytes.range(of: Data("Person".utf8)) == nil)
    }

    @Test("the same captures and pipeline give the same bytes")
    func reproducible() throws {
        let file = try description("vp8-lipsync", consent: ["A": ["audio", "video"]])
        _ = try render(file)
        let first = try Data(contentsOf: folder.url.appending(path: "out/meeting.mp4"))
        _ = try render(file)
        #expect(try Data(contentsOf: folder.url.appending(path: "out/meeting.mp4")) == first)
    }

    @Test("an unsupported codec is named, and the other streams are recorded; alone it is an error")
    func unsupported() throws {
        let sdp = "v=0\r\nm=video 40099 RTP/AVP 96\r\na=rtpmap:96 H266/90000\r\n"
        let result = try render(description("vp8-lipsync", consent: ["A": ["audio"]], extra: [["participant": "A", "kind": "video", "sdp": sdp]]))
        #expect(result.streams.last?.verdict == "unsupported")
        #expect(result.streams.last?.details.first?.contains("H266/90000") == true)
        #expect(result.outputs.contains { $0.kind == "mix" } && !result.outputs.contains { $0.kind == "composite" })
        let file = folder.url.appending(path: "only.json")
        try JSONSerialization.data(withJSONObject: ["captures": [Checkout.fixtures.appending(path: "vp8.pcap").path], "participants": [["id": "A", "consent": ["video": true]]],
                                                    "streams": [["participant": "A", "kind": "video", "sdp": sdp]]] as [String: Any]).write(to: file)
        let (status, output) = try run(["render", "--description", file.path, "--pipeline", Checkout.pipelines.appending(path: "meeting.yaml").path, "--output", folder.path + "/none"])
        #expect(status != 0 && output.contains("H266/90000"), "\(output)")
    }

    @Test("a bad description, pipeline or capture is explained, and leaves nothing behind", arguments: [
        ("captures: [x.pcap]\nparticipants: []\nstreams: []", "0 streams"), ("captures: []", "missing"), ("{", "bad.yaml"),
        ("captures: [nowhere.pcap]\nparticipants: [{id: A, consent: {audio: true}}]\nstreams: [{participant: A, kind: audio, sdp: \"v=0\\nm=audio 1 RTP/AVP 111\\na=rtpmap:111 opus/48000/2\\n\"}]", "nowhere.pcap"),
        ("captures: [x]\nparticipants: [{id: A}]\nstreams: [{participant: Z, kind: audio, sdp: x}]", "'Z'"), ("captures: [x]\nparticipants: [{id: A}]\nstreams: [{participant: A, kind: smell, sdp: x}]", "smell"),
        ("captures: [x]\nparticipants: [{id: A}]\nstreams: [{participant: A, kind: audio, sdp: x}]", "line 1"),
    ])
    func bad(text: String, says: String) throws {
        let file = folder.path + "/bad.yaml"
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        let (status, output) = try run(["render", "--description", file, "--pipeline", Checkout.pipelines.appending(path: "meeting.yaml").path, "--output", folder.path + "/bad"])
        #expect(status != 0 && output.contains(says) && output.count < 1_500, "\(output)")
        #expect((FileManager.default.subpaths(atPath: folder.path + "/bad") ?? []).isEmpty)
    }
}
