import Glibc
import Synchronization

/// Where keys lie: pages that are never swapped out (mlock), in no core dump (MADV_DONTDUMP), and zero in a forked child (MADV_WIPEONFORK).
///
/// Many keys share a page, and locks do not nest: so the pages are its own and stay locked. Where the limit of locked memory (RLIMIT_MEMLOCK) is
/// too low, or there are more keys at once than it has place for, keys lie in ordinary memory; they are overwritten at their end all the same.
public enum KeyMemory {
    static let slotBytes = DataKey.byteCount
    private static let regionBytes = 16 << 10
    /// In all 256 KiB: 8,192 keys at once.
    private static let regionsMax = 16

    private struct State {
        var free: [UInt] = []
        var regions: [UInt] = []
        var isLocked = true
    }
    private static let state = Mutex(State())

    /// Whether every key so far got a place that is locked.
    public static var isLocked: Bool { state.withLock { $0.isLocked } }

    static func allocate() -> UnsafeMutablePointer<UInt8> {
        let address = state.withLock { state -> UInt? in
            if state.free.isEmpty { grow(&state) }
            return state.free.popLast()
        }
        if let pointer = address.flatMap({ UnsafeMutablePointer<UInt8>(bitPattern: $0) }) { return pointer }
        return .allocate(capacity: slotBytes)
    }

    /// Overwrites the place and gives it back.
    static func free(_ pointer: UnsafeMutablePointer<UInt8>) {
        wipe(UnsafeMutableRawBufferPointer(start: pointer, count: slotBytes))
        let address = UInt(bitPattern: pointer)
        let isOurs = state.withLock { state in
            guard state.regions.contains(where: { address >= $0 && address < $0 + UInt(regionBytes) }) else { return false }
            state.free.append(address)
            return true
        }
        if !isOurs { pointer.deallocate() }
    }

    private static func grow(_ state: inout State) {
        guard state.regions.count < regionsMax, let region = mmap(nil, regionBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), region != MAP_FAILED else {
            state.isLocked = false
            return
        }
        if mlock(region, regionBytes) != 0 { state.isLocked = false }
        // Kernels without them leave the pages as any others.
        madvise(region, regionBytes, MADV_DONTDUMP)
        madvise(region, regionBytes, MADV_WIPEONFORK)
        let start = UInt(bitPattern: region)
        state.regions.append(start)
        state.free += stride(from: start, to: start + UInt(regionBytes), by: slotBytes)
    }
}

/// Overwrites memory with zeroes in a way that is not optimised away.
func wipe(_ bytes: UnsafeMutableRawBufferPointer) {
    if let start = bytes.baseAddress { explicit_bzero(start, bytes.count) }
}
