import CLinux
import Glibc

extension CaptureSession {
    static func bind(again endpoint: TapEndpoint, _ options: TapOptions) throws(TapError) -> [Socket] {
        var sockets: [Socket] = []
        for port in endpoint.rtpPort == endpoint.rtcpPort ? [endpoint.rtpPort] : [endpoint.rtpPort, endpoint.rtcpPort] {
            let descriptor = clinux_udp_bind(endpoint.address, port, Int32(clamping: options.receiveBufferBytes))
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
