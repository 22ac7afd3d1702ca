import Catalog
import Depacketize
import Foundation
import GRDB
import Media
import RTP
import SRTP
import Tap

extension Recorder {
    /// A stream of a request, read and checked.
    struct PreparedStream: Sendable {
        var id = StreamID.random()
        var track = TrackID.random()
        var participants: [ParticipantID]
        var kind: MediaKind
        /// With its keys: never stored as it is.
        var sdp: String
        /// Its m-lines: one, or the layers of a picture.
        var media: [MediaDescription]
        var keys: [[SRTPKey]]
        var codec: String

        /// What must be sealed to go on after a restart.
        var secret: Data? { SDPSecrets.hasAny(sdp) ? Data(sdp.utf8) : nil }

        /// All m-lines' packets are read by one description.
        var format: TrackFormat {
            var format = media[0].trackFormat(kind: kind)
            for layer in media.dropFirst().map({ $0.trackFormat(kind: kind) }) {
                format.codecs.merge(layer.codecs) { first, _ in first }
                format.extensions.merge(layer.extensions) { first, _ in first }
                format.parameters.merge(layer.parameters) { first, _ in first }
                format.repairs.merge(layer.repairs) { first, _ in first }
            }
            return format
        }
    }

    static let layersMax = 8
    static let codecHint = "send Opus, PCMU, PCMA, G.722 or L16 for sound, and VP8, VP9, H.264, H.265 or AV1 for pictures"

    static func prepare(_ request: StreamRequest, _ place: Int, _ known: Set<ParticipantID>) throws(RecorderError) -> PreparedStream {
        let pointer = "/streams/\(place)"
        guard !request.participants.isEmpty, request.participants.allSatisfy(known.contains) else {
            throw RecorderError(.invalid, "stream \(place + 1) names no participant of this meeting", hint: "invite them first", pointer: pointer + "/participants")
        }
        let (media, keys) = try read(request.sdp, request.kind, place)
        let codecs = media.flatMap { media in media.payloadTypes.compactMap { media.codecs[$0] } }
        guard let codec = codecs.first(where: isRecorded) else {
            throw RecorderError(.unsupported, "stream \(place + 1): the codec \(names(codecs)) is not supported", hint: codecHint, pointer: pointer + "/sdp")
        }
        return PreparedStream(participants: request.participants, kind: request.kind, sdp: request.sdp, media: media, keys: keys, codec: codec.description)
    }

    private static func isRecorded(_ codec: Codec) -> Bool { !codec.isAuxiliary && Depacketizer.isSupported(codec) }

    private static func names(_ codecs: some Sequence<Codec>) -> String { Set(codecs.map(\.description)).sorted().joined(separator: ", ") }

    /// What was announced beside what is recorded and cannot be read, by name.
    static func unsupported(_ format: TrackFormat) -> [String] {
        Set(format.codecs.values.filter { !isRecorded($0) && !$0.isAuxiliary }.map(\.description)).sorted()
    }

    /// The m-lines of a stream's SDP and their keys. No error repeats what may be a key.
    static func read(_ sdp: String, _ kind: MediaKind, _ place: Int) throws(RecorderError) -> (media: [MediaDescription], keys: [[SRTPKey]]) {
        let (name, pointer) = ("stream \(place + 1)", "/streams/\(place)/sdp")
        var media: [MediaDescription]
        do {
            media = try SessionDescription(parsing: sdp).media
        } catch {
            throw RecorderError(.invalid, "\(name): \(error)", pointer: pointer)
        }
        for line in media where (line.type == "audio") != (kind == .audio) {
            throw RecorderError(.invalid, "\(name) is announced as \(kind.rawValue), its m-line says \(line.type)", pointer: "/streams/\(place)/kind")
        }
        guard media.count == 1 || kind != .audio && media.count <= layersMax else {
            throw RecorderError(.invalid, "\(name) has \(media.count) m-lines",
                                hint: "one for sound; for a picture one, or up to \(layersMax) layers of it", pointer: pointer)
        }
        for layer in media.dropFirst() {
            for (type, codec) in layer.codecs where media[0].codecs[type].map({ $0 != codec }) ?? false {
                throw RecorderError(.invalid, "\(name): payload type \(type) is not \(codec.description) in all m-lines",
                                    hint: "layers of one picture use the same payload types", pointer: pointer)
            }
            for (id, uri) in layer.extensions where media[0].extensions[id].map({ $0 != uri }) ?? false {
                throw RecorderError(.invalid, "\(name): header extension \(id) is not the same in all m-lines",
                                    hint: "layers of one picture use the same a=extmap", pointer: pointer)
            }
        }
        var keys: [[SRTPKey]] = []
        for layer in media.indices {
            // A statement of its own: a second holder of the keys would keep them from being overwritten.
            let refusal: String? = switch media[layer].protection {
            case .none, .keys: nil
            case .unsupportedSuites, .dtls, .noKeys: "\(name): \(media[layer].protection)"
            }
            if let refusal {
                throw RecorderError(.unsupported, refusal, hint: "announce a key by a=crypto (RFC 4568), or send RTP/AVP inside your network", pointer: pointer)
            }
            keys.append(try takeKeys(of: &media[layer], name, pointer))
        }
        return (media, keys)
    }

    /// The keys of one m-line, which holds them no more.
    private static func takeKeys(of media: inout MediaDescription, _ name: String, _ pointer: String) throws(RecorderError) -> [SRTPKey] {
        var keys: [SRTPKey] = []
        for place in media.cryptos.indices {
            do {
                keys.append(try SRTPKey(taking: &media.cryptos[place]))
            } catch {
                throw RecorderError(.unsupported, "\(name): \(error.what)", hint: error.hint, pointer: pointer)
            }
        }
        return keys
    }

    static func insert(_ stream: PreparedStream, _ place: Int, _ endpoints: [TapEndpoint], _ recording: RecordingID, isLive: Bool, _ db: Database) throws {
        let format = String(decoding: try JSONEncoder().encode(stream.format), as: UTF8.self)
        let layers = String(decoding: try JSONEncoder().encode(endpoints.dropFirst().map { StoredEndpoint($0) }), as: UTF8.self)
        try StreamRecord(id: stream.id.rawValue, recording: recording.rawValue, position: place, track: stream.track.rawValue, kind: stream.kind.rawValue,
                         sdp: SDPSecrets.redacted(stream.sdp), codec: stream.codec, format: format, address: endpoints[0].address, rtpPort: Int(endpoints[0].rtpPort),
                         rtcpPort: Int(endpoints[0].rtcpPort), layers: layers).insert(db)
        for participant in Set(stream.participants) {
            try db.execute(sql: "INSERT INTO stream_participant (stream, participant, is_recorded) VALUES (?, ?, ?)", arguments: [stream.id.rawValue, participant.rawValue, !isLive])
        }
    }

    /// A further m-line's endpoint as the catalog keeps it.
    struct StoredEndpoint: Codable {
        var address: String
        var rtpPort: UInt16
        var rtcpPort: UInt16

        init(_ endpoint: TapEndpoint) { (address, rtpPort, rtcpPort) = (endpoint.address, endpoint.rtpPort, endpoint.rtcpPort) }
        var endpoint: TapEndpoint { TapEndpoint(address: address, rtpPort: rtpPort, rtcpPort: rtcpPort) }
    }

    /// Where all m-lines of a stream are sent to.
    static func endpoints(_ stream: StreamRecord) -> [TapEndpoint] {
        let further: [StoredEndpoint] = decoded(stream.layers) ?? []
        return [TapEndpoint(address: stream.address, rtpPort: UInt16(clamping: stream.rtpPort), rtcpPort: UInt16(clamping: stream.rtcpPort))] + further.map(\.endpoint)
    }
}
