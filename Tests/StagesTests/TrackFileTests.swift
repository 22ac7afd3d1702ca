import Depacketize
@testable import FFmpeg
import Foundation
import Media
@testable import Stages
import TestSupport
import Testing

@Suite("Track files")
struct TrackFileTests {
    private func onDisk(_ file: MemoryFile, _ body: (String) throws -> Void) throws {
        let folder = try TemporaryFolder()
        let place = folder.url.appending(path: "track.mkv")
        try Data(file.bytes).write(to: place)
        try body(place.path)
    }

    private static func units(_ codec: Codec) throws -> [AccessUnit] {
        codec.isSound ? try Coded.sound(codec, seconds: 1) { i, _ in 0.3 * sin(Float(i) * 0.13) } : try Coded.pictures(codec, 30, luma: { _ in nil })
    }

    @Test("every codec's units become one Matroska stream that other programs decode without a complaint, each packet as it was",
          arguments: [(Codec.opus, "opus"), (.pcmu, "pcm_mulaw"), (.pcma, "pcm_alaw"), (.g722, "adpcm_g722"), (.l16, "pcm_s16be"),
                      (.vp8, "vp8"), (.vp9, "vp9"), (.h264, "h264"), (.h265, "hevc"), (.av1, "av1")])
    func everyCodec(codec: Codec, name: String) throws {
        let units = try Self.units(codec)
        try onDisk(.track(units)) { path in
            let (found, _) = try ask("ffprobe", ["-v", "error", "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0", path])
            #expect(found == "\(name),\(units.count)\n")
            let (frames, complaints) = try ask("ffmpeg", ["-v", "error", "-xerror", "-i", path, "-f", "framecrc", "-"])
            #expect(complaints == "")
            if !codec.isSound { #expect(frames.split(separator: "\n").filter { !$0.hasPrefix("#") }.count == units.count) }
        }
    }

    @Test("MKVToolNix reads every stream to its end without a warning, with the codec private data that the codec's mapping asks for",
          .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/mkvmerge"), "mkvtoolnix is not installed"),
          arguments: [(Codec.opus, "A_OPUS", "4f70757348656164"), (.pcmu, "A_MS/ACM", "0700"), (.pcma, "A_MS/ACM", "0600"), (.g722, "A_MS/ACM", "8f02"), (.l16, "A_PCM/INT/BIG", ""),
                      (.vp8, "V_VP8", ""), (.vp9, "V_VP9", ""), (.h264, "V_MPEG4/ISO/AVC", "01"), (.h265, "V_MPEGH/ISO/HEVC", "01"), (.av1, "V_AV1", "81")])
    func secondOpinion(codec: Codec, id: String, head: String) throws {
        struct Identified: Decodable {
            struct Track: Decodable {
                struct Properties: Decodable { var codec_id: String, codec_private_data: String? }
                var properties: Properties
            }
            var tracks: [Track]
        }
        try onDisk(.track(Self.units(codec))) { path in
            let (json, _) = try ask("mkvmerge", ["-J", path])
            let tracks = try JSONDecoder().decode(Identified.self, from: Data(json.utf8)).tracks
            #expect(tracks.map(\.properties.codec_id) == [id])
            let privateData = try #require(tracks.first).properties.codec_private_data ?? ""
            #expect(privateData.prefix(head.count) == head)
            let (said, _) = try ask("mkvmerge", ["--ui-language", "en_US", "-o", path + ".again", path])
            #expect(!said.contains("Warning") && !said.contains("Error") && said.contains("Multiplexing took"))
        }
    }

    @Test("a codec that changes in mid-track gets a stream of its own from its first key unit on, at its own time",
          arguments: [[Codec.opus, .pcmu, .opus], [.vp8, .h264], [.h264, .av1, .vp9]])
    func change(codecs: [Codec]) throws {
        var units: [AccessUnit] = []
        for codec in codecs {
            let shift = Nanoseconds.seconds(units.isEmpty ? 0 : 30)
            let base = units.last?.time ?? epoch
            units += try Self.units(codec).map { unit in
                var later = unit
                later.time = base + shift + (unit.time - epoch)
                return later
            }
        }
        try onDisk(.track(units, isChanging: true)) { path in
            let (rows, _) = try ask("ffprobe", ["-v", "error", "-show_entries", "packet=stream_index,pts_time", "-of", "csv=p=0", path])
            let found = rows.split(separator: "\n").map { $0.split(separator: ",") }.map { (stream: Int($0[0])!, time: Double($0[1])!) }
            #expect(found.count == units.count)
            #expect(Set(found.map(\.stream)).count == Set(codecs).count)
            // Opus is said to be heard 6.5 ms before it was captured, since its decoder is so much late: 7 ms in whole ones.
            for (row, unit) in zip(found.sorted { $0.time < $1.time }, units) {
                #expect(abs(row.time - (unit.time - epoch).seconds + (unit.codec == .opus ? 0.007 : 0)) < 0.0006)
            }
            #expect(try ask("ffmpeg", ["-v", "error", "-xerror", "-i", path, "-map", "0", "-f", "null", "-"]).complaints == "")
        }
    }

    @Test("times are rounded each by itself to the nearest millisecond: no error adds up")
    func times() throws {
        var units = try Coded.sound(.pcmu, seconds: 4) { _, _ in 0 }
        for i in units.indices { units[i].time = epoch + Nanoseconds(count: Int64(i) * 20_006_700) }
        let file = try MemoryFile.track(units)
        let demuxer = try Demuxer(file, as: .matroska)
        let packet = Packet()
        var times: [Int64] = []
        while try demuxer.read(into: packet) { times.append(packet.pts) }
        #expect(times == units.map { Int64((($0.time - epoch).milliseconds).rounded()) })
    }

    @Test("units before the first key unit, and of a codec that has no place in a track, are left out and counted")
    func refused() throws {
        var units = try Coded.pictures(.vp8, 10)
        let key = units.removeFirst()
        units.insert(key, at: 3)
        for i in units.indices { units[i].time = epoch + .milliseconds(40 * Int64(i)) }
        units.append(AccessUnit(payload: [1, 2, 3], codec: Codec(name: "theora", clockRate: 90_000), time: epoch + .seconds(2), isKey: true))
        let writer = TrackFileWriter(MemoryFile())
        for unit in units { try writer.take(.accessUnit(unit)) }
        #expect(writer.refused == 4)
        #expect(try #require(try writer.finish()).start == units[3].time)
    }

    @Test("a dry run is needed only where several codecs may occur")
    func dryRun() {
        let format = TrackFormat(kind: .audio, codecs: [111: .opus, 0: .pcmu, 63: Codec(name: "red", clockRate: 48_000, channels: 2), 101: Codec(name: "telephone-event", clockRate: 8_000)])
        #expect(!StreamCollector.isNeeded(format, occurring: [111, 101]))
        #expect(StreamCollector.isNeeded(format, occurring: [111, 0]))
        #expect(StreamCollector.isNeeded(format, occurring: [63]))
        #expect(!StreamCollector.isNeeded(TrackFormat(kind: .audio, codecs: [111: .opus, 63: Codec(name: "red", clockRate: 48_000, channels: 2)]), occurring: [63, 111]))
    }

    @Test("parameter sets are found whatever stands there", arguments: 0..<200 as Range<UInt64>)
    func hostile(seed: UInt64) {
        var random = Seeded(seed)
        var bytes = random.bytes(Int.random(in: 0...120, using: &random))
        for _ in 0..<6 where bytes.count > 8 { bytes.replaceSubrange(Int.random(in: 0..<bytes.count - 4, using: &random)..., with: [0, 0, 1, UInt8.random(in: 0...255, using: &random)] + random.bytes(Int.random(in: 0...20, using: &random))) }
        for name in ["h264", "h265", "av1"] {
            let unit = AccessUnit(payload: bytes, codec: Codec(name: name, clockRate: 90_000), time: epoch, isKey: true)
            if let stream = CodedStream(unit) { #expect(stream.configuration.count <= bytes.count * 2 + 4) }
        }
    }
}
