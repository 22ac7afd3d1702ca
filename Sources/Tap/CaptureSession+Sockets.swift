import CLinux
import Glibc

extension CaptureSession {
    /// How often, and after how many microseconds each time, a port that a recording had before is asked for again: a second in all.
    private static let attempts = (count: 100, apart: UInt32(10_000))

    /// The port that a recording had, which its senders know: no other will do.
    ///
    /// A process that another thread is about to start holds a copy of every descriptor until it executes its program, and so
    /// keeps a port for some milliseconds after it was closed here, or after the server before this one was killed.
    private static func patientBind(_ address: String, _ port: UInt16, _ bytes: Int32) -> Int32 {
        for _ in 1..<attempts.count {
            let descriptor = clinux_udp_bind(address, port, bytes)
            guard descriptor < 0, errno == EADDRINUSE else { return descriptor }
            usleep(attempts.apart)
        }
        return clinux_udp_bind(address, port, bytes)
    }

    static func bind(again endpoint: TapEndpoint, _ options: TapOptions) throws(TapError) -> [Socket] {
        var sockets: [Socket] = []
        for port in endpoint.rtpPort == endpoint.rtcpPort ? [endpoint.rtpPort] : [endpoint.rtpPort, endpoint.rtcpPort] {
            let descriptor = patientBind(endpoint.address, port, Int32(clamping: options.receiveBufferBytes))
            guard descriptor >= 0 else {
                let why = String(cString: strerror(errno))
                for socket in sockets { close(socket.descriptor) }
                throw TapError(what: "UDP port \(port) at \(endpoint.address) cannot be used again: \(why)", hint: "free it and restart, or stop the recording")
            }
            sockets.append(Socket(descriptor: descriptor, port: port))
        }
        return sockets
    }

    /// An even RTP port and the next one for RTCP (RFC 3550 section 11), or one for both.
    static func bind(muxed: Bool, _ options: TapOptions) throws(TapError) -> [Socket] {
        let bytes = Int32(clamping: options.receiveBufferBytes)
        var lastError: Int32 = 0
        // A range is tried to its end; any free port, until one is even.
        let first = options.ports.map { Int($0.lowerBound) + Int($0.lowerBound) % 2 } ?? 0
        let last = options.ports.map { Int($0.upperBound) - (muxed ? 0 : 1) } ?? 1_000
        for candidate in stride(from: first, through: last, by: 2) {
            let wanted = options.ports == nil ? 0 : UInt16(candidate)
            let rtp = clinux_udp_bind(options.address, wanted, bytes)
            guard rtp >= 0 else {
                lastError = errno
                if options.ports == nil { break }
                continue
            }
            let port = clinux_bound_port(rtp)
            if muxed { return [Socket(descriptor: rtp, port: port)] }
            if port % 2 == 0 {
                let rtcp = clinux_udp_bind(options.address, port + 1, bytes)
                if rtcp >= 0 { return [Socket(descriptor: rtp, port: port), Socket(descriptor: rtcp, port: port + 1)] }
                lastError = errno
            }
            close(rtp)
        }
        throw TapError(what: "no free pair of UDP ports at \(options.address): \(String(cString: strerror(lastError)))",
                       hint: options.ports.map { "widen the port range \($0.lowerBound)-\($0.upperBound)" } ?? "check the address")
    }
}
