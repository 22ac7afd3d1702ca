import Media
import RTP
import SealedFile

/// The live path without sockets: a capture's datagrams through the same demultiplexer, gate and packet log. Blocks; one thread.
public final class ImportSession {
    private var core: CaptureCore
    private let writers: TrackWriters
    private var scratch: [UInt8] = []
    private let count: Int

    /// Destination ports are those of the SDPs (`a=rtcp`, else the next port).
    public init(streams: [TapStream]) throws(SealedFileError) {
        core = CaptureCore(streams: streams, ports: streams.map { $0.media.map { ($0.port, $0.effectiveRTCPPort) } }, allowed: [])
        writers = try TrackWriters(streams)
        count = streams.count
    }

    public func setGate(_ isOpen: Bool, stream: Int, at time: WallTime) { _ = core.setGate(isOpen, stream: stream, at: time) }

    public func feed(_ datagram: CapturedDatagram) {
        datagram.payload.withUnsafeBytes {
            _ = core.receive($0, port: datagram.destinationPort, source: datagram.source, arrival: datagram.arrival)
        }
        if core.pendingBytes > 1 << 20 { drain(now: datagram.arrival) }
    }

    private func drain(now: WallTime) {
        core.exchangePending(&scratch)
        writers.consume(&scratch)
        writers.flush(now: now)
    }

    /// Closes the logs. Throws where the disk did not take everything.
    public func finish(at time: WallTime) throws(SealedFileError) -> [StreamStatistics] {
        core.end(at: time)
        drain(now: time)
        writers.close()
        if writers.lostToStorage.contains(where: { $0 > 0 }) { throw .system(call: writers.storageError ?? "write", errno: 28) }
        return core.statistics
    }
}

extension MediaDescription {
    /// Where this m-line's RTCP goes (RFC 3605, RFC 5761).
    public var effectiveRTCPPort: UInt16 { rtcpPort ?? (isRTCPMuxed ? port : port &+ 1) }
}
