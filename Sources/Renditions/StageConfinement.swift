import CLinux
import Glibc
import Media

/// What one stage process may use. What it goes beyond fails its job and nothing else.
public struct StageLimits: Hashable, Sendable {
    /// Bytes that it may map.
    public var memoryBytes: UInt64 = 6 << 30
    /// Seconds of processor time, of all threads together.
    public var cpuSeconds: UInt64 = 100 * 3_600
    /// Bytes of any one file that it writes.
    public var fileBytes: UInt64 = 1 << 40
    /// Seconds from its start to its end, for the supervisor to watch.
    public var wallSeconds: UInt64 = 24 * 3_600

    /// The most that any stage may use.
    public init() {}

    /// What an order may take with inputs of so many bytes: far more than it does take, on a slow machine that others use too.
    public init(for order: StageOrder, inputBytes: UInt64) {
        self.init()
        let seconds = order.span.map { UInt64(max(0, min($0.duration.seconds, 48 * 3_600))) } ?? 0
        let parameters = order.parameters
        let written: UInt64
        switch order.stage {
        case .depacketize: written = 2 * inputBytes
        case .mix: written = seconds * UInt64(max(0, parameters.audioBitrate)) / 2
        // A quarter of what the pictures would take uncompressed; and the mix beside them.
        case .compose, .composePart: written = seconds * UInt64(max(0, parameters.width * parameters.height * parameters.frameRate)) * 3 / 8 + inputBytes
        case .waveform: written = seconds * UInt64(max(0, parameters.peaksPerSecond)) * 16
        case .thumbnail: written = 0
        }
        fileBytes = min(fileBytes, 64 << 20 + written)
        wallSeconds = min(wallSeconds, 1_800 + 20 * seconds + inputBytes / 1_000_000)
        cpuSeconds = min(cpuSeconds, wallSeconds * UInt64(max(1, parameters.threads) + 1))
    }

    /// As a stage's arguments; what it is not told is the most.
    public var arguments: [String] { ["--memory", "\(memoryBytes)", "--cpu", "\(cpuSeconds)", "--file", "\(fileBytes)"] }

    /// Throws where an argument is none of these.
    public init(arguments: some Sequence<String>) throws(StageConfinement.Refused) {
        self.init()
        var rest = Array(arguments)[...]
        while let name = rest.popFirst() {
            guard let value = rest.popFirst().flatMap(UInt64.init) else { throw StageConfinement.Refused(description: "\(name) needs a number") }
            switch name {
            case "--memory": memoryBytes = value
            case "--cpu": cpuSeconds = value
            case "--file": fileBytes = value
            default: throw StageConfinement.Refused(description: "\(name) is not known")
            }
        }
    }
}

/// How a stage process shuts itself in before it reads a byte of anybody's.
public struct StageConfinement: Sendable {
    /// Why the kernel did not grant the filter of system calls (an errno); nil where it did.
    public let withoutFilter: Int32?
    /// Likewise Landlock.
    public let withoutLandlock: Int32?
    /// Landlock's version, 0 without.
    public let landlockVersion: Int

    public struct Refused: Error, CustomStringConvertible { public var description: String }

    /// Parts that can be left out, to see whether the others hold alone.
    public enum Part: String, Sendable, CaseIterable { case filter, landlock }

    /// Confines the process for good; `readable` is the one file that can still be opened by its name. To be called while it has one thread.
    ///
    /// Throws where even limits were refused. Filter and Landlock may be lacking: see the result.
    public static func enter(_ limits: StageLimits, readable: String?, without: Set<Part> = []) throws(Refused) -> StageConfinement {
        var granted = clinux_confinement()
        let left = (without.contains(.filter) ? CLINUX_WITHOUT_FILTER : 0) | (without.contains(.landlock) ? CLINUX_WITHOUT_LANDLOCK : 0)
        func confine(_ path: UnsafePointer<CChar>?) -> Int32 {
            // An order counts its descriptors; the rest are standard streams, the lent file and what is open for a moment.
            var raw = clinux_stage_limits(memory_bytes: limits.memoryBytes, cpu_seconds: limits.cpuSeconds, file_bytes: limits.fileBytes,
                                          open_files: UInt64(StageChannel.descriptorsMax + 64), nice: 5, readable: path)
            return clinux_confine_stage(&raw, Int32(left), &granted)
        }
        let code = if let readable { readable.withCString { confine($0) } } else { confine(nil) }
        guard code == 0 else { throw Refused(description: "the process cannot limit itself: \(String(cString: strerror(errno)))") }
        return StageConfinement(withoutFilter: granted.filter == 0 ? nil : granted.filter, withoutLandlock: granted.landlock == 0 ? nil : granted.landlock,
                                landlockVersion: Int(granted.landlock_version))
    }
}
