import Catalog
import CLinux
import Foundation
import Glibc
import Media
import PacketLog
@testable import Recorder
import SealedFile
import Synchronization
import TestSupport

/// Speaks into a recording that runs: a packet every five milliseconds, until it is told to end.
private final class Speaker: Sendable {
    private let state = Mutex((sent: 0, isOver: false))
    private let ended = DispatchSemaphore(value: 0)

    init(port: Int) {
        Thread.detachNewThread { [self] in
            var target = sockaddr_storage()
            let length = clinux_socket_address("127.0.0.1", UInt16(port), &target)
            let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
            while !state.withLock({ $0.isOver }) {
                let number = state.withLock { state in
                    state.sent += 1
                    return state.sent
                }
                let packet = rtp(UInt16(truncatingIfNeeded: number), UInt32(number * 240), payloadType: 111, payload: [1, 2, 3])
                withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = sendto(descriptor, packet, packet.count, 0, $0, length) } }
                usleep(5_000)
            }
            close(descriptor)
            ended.signal()
        }
    }

    var sent: Int { state.withLock { $0.sent } }

    func end() -> Int {
        state.withLock { $0.isOver = true }
        ended.wait()
        return sent
    }
}

/// Beside the recording that is made there is one that runs, with somebody who speaks.
extension UnmadeRecording {
    /// Begins it, before the data folder is kept as the base.
    static func beginCapture(_ rights: Rights) async throws -> (RecordingID, TrackID) {
        let (recorder, moderator) = (rights.recorder, rights.moderator)
        let meeting = try await recorder.createMeeting(MeetingRequest(), as: moderator).id
        let anna = try await recorder.authenticate(token: recorder.invite(InvitationRequest(name: "Anna"), to: meeting, as: moderator).token)
        let stream = StreamRequest(participants: [anna.participant!], kind: .audio, sdp: GateTests.sdp(0))
        let made = try await recorder.createRecording(RecordingRequest(pipeline: "small", streams: [stream]), in: meeting, as: moderator).id
        let notice = try await recorder.notice(for: made, language: .de, as: anna)
        _ = try await recorder.decide(ConsentRequest(decision: .given, modalities: [.audio], purposes: [.minutes], notice: notice.hash), on: made, as: anna)
        return (made, TrackID(rawValue: try await rights.track(made, 0))!)
    }

    /// What became of the running recording's packets.
    struct Speech: Sendable {
        /// So many of those that were sent were taken.
        var taken: Int
        var sent: Int
        /// Sent when everything was well again.
        var last: Int
    }

    /// Has somebody speak while `body` runs, and for a while after it.
    func speaking(_ server: KilledServer.Server, _ body: () throws -> Void) throws -> Speech {
        guard let endpoint = try capture(server)["endpoint"] as? [String: Any], let port = endpoint["rtp_port"] as? Int else { throw Broken(description: "the running recording does not go on") }
        let speaker = Speaker(port: port)
        do { try body() } catch {
            _ = speaker.end()
            throw error
        }
        let meanwhile = speaker.sent
        while speaker.sent < meanwhile + 100 { usleep(5_000) }
        let sent = speaker.end()
        var taken = 0
        for _ in 0..<200 where taken < sent {
            taken = try capture(server)["packets"] as? Int ?? 0
            usleep(20_000)
        }
        return Speech(taken: taken, sent: sent, last: sent - meanwhile)
    }

    private func capture(_ server: KilledServer.Server) throws -> [String: Any] {
        let view = try view(server, live.recording)
        return (view?["streams"] as? [[String: Any]])?.first ?? [:]
    }

    /// How many packets of it are on the disk, whole. No server runs.
    func stored() async throws -> Int {
        let keys = try KeyStore(path: data.appending(path: "keys.sqlite").path, root: RootKey.load(path: data.appending(path: "root.key").path))
        let (identity, key) = (TrackLogIdentity(recording: live.recording, track: live.track, kind: .audio), try await keys.key(KeyStore.track(live.track)))
        let folder = Rights.configuration(data).trackFolder(live.recording.rawValue, live.track.rawValue).path
        return try await aside { try TrackManifest.read(directory: folder, identity: identity, key: key).map(\.packets).reduce(0, +) }
    }
}
