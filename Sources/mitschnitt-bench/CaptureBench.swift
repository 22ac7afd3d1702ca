import CLinux
import Foundation
import Glibc
import Media
import PacketLog
import RTP
import SealedFile
import Tap

/// Receiving and writing packets: ours against a bare loop in C and against ffmpeg, each in a process of its own under the same load.
struct CaptureBench {
    let folder: URL
    let seconds: Int
    static let rate = 20_000
    static let payloadBytes = 1_000

    func run() throws {
        let bare = try bareLoop()
        let rows: [(name: String, run: (UInt16) throws -> pid_t)] = [
            ("bare recvmmsg-and-write loop in C", { port in try Measured.start(bare, [String(port), folder.path + "/bare.raw"]) }),
            ("mitschnitt: gate, seal, write, sync", { port in try Measured.start(CommandLine.arguments[0], ["--capture", String(port), folder.path + "/log"], output: folder.path + "/ours.txt") }),
            ("ffmpeg -i x.sdp -c copy", { port in try ffmpeg(port) }),
        ]
        var base: Double?
        for entry in rows {
            let port = UInt16.random(in: 20_000...29_000) & ~1
            let start = Measured.now()
            let child = try entry.run(port)
            usleep(1_500_000)
            let sent = Self.flood(port, seconds)
            usleep(1_000_000)
            kill(child, SIGTERM)
            let measured = try Measured.wait(child, since: start)
            let perMillion = measured.cpu / Double(sent) * 1e6
            if base == nil { base = perMillion }
            let written = Self.written(folder)
            let counts = entry.name.hasPrefix("mitschnitt") ? (try? String(contentsOfFile: folder.path + "/ours.txt", encoding: .utf8)) ?? "" : ""
            row(entry.name, String(format: "%.2f CPU s per million", perMillion), String(format: "%.2fx the bare loop", perMillion / (base ?? 1)))
            let kept = String(format: "%.0f of %.0f MB written", Double(written) / 1e6, Double(sent * (Self.payloadBytes + 12)) / 1e6)
            row("  of \(sent) packets sent", kept, counts.trimmingCharacters(in: .whitespacesAndNewlines))
            for file in ["bare.raw", "log", "x.mkv"] { try? FileManager.default.removeItem(at: folder.appending(path: file)) }  // only one of them is there
        }
    }

    /// Bytes that the process under test left.
    private static func written(_ folder: URL) -> Int {
        let all = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: [.fileSizeKey])
        var total = 0
        while let file = all?.nextObject() as? URL {
            if ["bare", "bare.c", "x.sdp", "ours.txt"].contains(file.lastPathComponent) { continue }
            total += (try? file.resourceValues(forKeys: [.fileSizeKey]).fileSize) ?? 0  // folders have none
        }
        return total
    }

    /// The least that can be done: built on the spot with the toolchain's own compiler.
    private func bareLoop() throws -> String {
        let source = folder.path + "/bare.c"
        try """
            #define _GNU_SOURCE
            #include <arpa/inet.h>
            #include <fcntl.h>
            #include <signal.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/socket.h>
            #include <unistd.h>
            static char buffers[64][2048];
            int main(int argc, char **argv) {
              int s = socket(AF_INET, SOCK_DGRAM, 0), size = 8 << 20, out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
              setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
              struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
              if (bind(s, (struct sockaddr *)&a, sizeof a)) return 1;
              struct mmsghdr m[64]; struct iovec v[64];
              for (;;) {
                memset(m, 0, sizeof m);
                for (int i = 0; i < 64; i++) { v[i] = (struct iovec){buffers[i], 2048}; m[i].msg_hdr.msg_iov = &v[i]; m[i].msg_hdr.msg_iovlen = 1; }
                int n = recvmmsg(s, m, 64, MSG_WAITFORONE, 0);
                for (int i = 0; i < n; i++) if (write(out, buffers[i], m[i].msg_len) < 0) return 2;
              }
            }

            """.write(toFile: source, atomically: true, encoding: .utf8)
        let binary = folder.path + "/bare"
        // Swift's own toolchain brings clang; /usr/bin/env finds it, or Debian's.
        _ = try Measured.run("/usr/bin/env", ["clang", "-O2", "-o", binary, source])
        return binary
    }

    private func ffmpeg(_ port: UInt16) throws -> pid_t {
        let sdp = folder.path + "/x.sdp"
        try "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio \(port) RTP/AVP 96\na=rtpmap:96 L16/48000/2\n".write(toFile: sdp, atomically: true, encoding: .utf8)
        return try Measured.start("/usr/bin/ffmpeg", ["-v", "error", "-nostdin", "-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "500000", "-i", sdp, "-c", "copy", "-y", folder.path + "/x.mkv"])
    }

    /// Sends a stream that ffmpeg can copy as it is (L16) at the wanted rate, in bursts of a millisecond; how many packets were sent.
    private static func flood(_ port: UInt16, _ seconds: Int) -> Int {
        var target = sockaddr_storage()
        let length = clinux_socket_address("127.0.0.1", port, &target)
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(socket) }
        let connected = withUnsafePointer(to: &target) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket, $0, length) } }
        guard connected == 0 else { return 0 }
        var packet: [UInt8] = [0x80, 96] + [UInt8](repeating: 0, count: 6) + [0, 0, 0, 7] + (0..<payloadBytes).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var sent = 0
        let start = Measured.now()
        for tick in 0..<seconds * 1_000 {
            for _ in 0..<rate / 1_000 {
                (packet[2], packet[3]) = (UInt8(sent >> 8 & 255), UInt8(sent & 255))
                let time = UInt32(truncatingIfNeeded: sent * payloadBytes / 4)
                (packet[4], packet[5], packet[6], packet[7]) = (UInt8(time >> 24), UInt8(time >> 16 & 255), UInt8(time >> 8 & 255), UInt8(time & 255))
                if send(socket, packet, packet.count, Int32(MSG_NOSIGNAL)) > 0 { sent += 1 }
            }
            let wait = start + Double(tick + 1) / 1_000 - Measured.now()
            if wait > 0 { usleep(UInt32(wait * 1e6)) }
        }
        return sent
    }

    /// Our side of the benchmark, in a process of its own: until SIGTERM, then the counts.
    static func capture(port: UInt16, directory: String) throws {
        let media = try SessionDescription(parsing: "v=0\nm=audio \(port) RTP/AVP 96\na=rtpmap:96 L16/48000/2\na=rtcp-mux\n").media[0]
        let id = StreamID.random()
        let stream = TapStream(id: id, identity: TrackLogIdentity(recording: .random(), track: .random(), kind: .audio), media: media, logDirectory: directory, key: .random())
        var options = TapOptions()
        options.fixedPorts = [id: [TapEndpoint(address: "127.0.0.1", rtpPort: port, rtcpPort: port)]]
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        let session = try CaptureSession(streams: [stream], options: options)
        session.setGate(true, stream: id, at: WallTime(seconds: 1))
        var signal: Int32 = 0
        sigwait(&signals, &signal)
        let counts = session.stop().streams[id] ?? .init()
        print("\(counts.packets) kept, \(counts.kernelDrops) dropped by the kernel, \(counts.overflow + counts.lostToStorage) lost to the disk")
    }
}
