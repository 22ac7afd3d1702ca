import Catalog
import Media
@testable import Recorder
import Synchronization
import TestSupport
import Testing

@Suite("The service's clock")
struct ServiceClockTests {
    /// A machine whose wall clock can be set.
    private final class Machine: Sendable {
        let state = Mutex((wall: Int64(1_000_000), steady: Int64(5_000)))
        func go(_ seconds: Int64) { state.withLock { $0 = ($0.wall + seconds, $0.steady + seconds) } }
        func set(_ step: Int64) { state.withLock { $0.wall += step } }
        func clock() -> ServiceClock {
            ServiceClock(isMovable: true) { [self] in state.withLock { ServiceClock.Reading(wall: WallTime(nanoseconds: $0.wall * 1_000_000_000), steady: .seconds($0.steady)) } }
        }
    }
    private func times(_ clock: ServiceClock) -> [Double] { [clock.now.seconds, clock.settled.seconds] }

    @Test("set back, time goes on from where it was; set right again, it follows")
    func back() {
        let machine = Machine(), clock = machine.clock()
        machine.go(100)
        #expect(times(clock) == [1_000_100, 1_000_100])
        machine.set(-86_400)
        #expect(times(clock) == [1_000_100, 1_000_100])
        machine.go(50)
        #expect(times(clock) == [1_000_150, 1_000_150])
        machine.set(86_400)
        machine.go(1)
        #expect(times(clock) == [1_000_151, 1_000_151])
        machine.set(2)
        #expect(times(clock) == [1_000_153, 1_000_153])
    }

    @Test("set forward, what is past its date is closed at once, and destroyed after half an hour only; taken back before, nothing was")
    func forward() {
        let machine = Machine(), clock = machine.clock()
        _ = times(clock)
        machine.set(3_600)
        #expect(times(clock) == [1_003_600, 1_000_000])
        machine.go(1_799)
        #expect(times(clock) == [1_005_399, 1_001_799])
        machine.set(-3_600)
        #expect(times(clock) == [1_001_799, 1_001_799])
        machine.set(3_600)
        machine.go(100)
        #expect(times(clock) == [1_005_499, 1_001_899])
        machine.go(1_700)
        #expect(times(clock) == [1_007_199, 1_007_199 - 3_600])
        machine.go(100)
        #expect(times(clock) == [1_007_299, 1_007_299])
    }

    @Test("over a restart it does not go back behind what was remembered, and after a long time off it waits before it destroys")
    func restart() throws {
        let machine = Machine(), clock = machine.clock()
        machine.set(-500_000)
        clock.resume(from: WallTime(seconds: 1_000_010))
        #expect(times(clock) == [1_000_010, 1_000_010])
        machine.go(10)
        #expect(times(clock) == [1_000_020, 1_000_020])
        let other = Machine(), late = other.clock()
        late.resume(from: WallTime(seconds: 500_000))
        #expect(times(late) == [1_000_000, 500_000])
        other.go(1_800)
        #expect(times(late) == [1_001_800, 1_001_800])
        let soon = other.clock()
        soon.resume(from: WallTime(seconds: 1_001_780))
        #expect(times(soon) == [1_001_800, 1_001_800])
        // Moved on purpose it is believed at once, and what the catalog remembers is without that.
        try soon.advance(by: .seconds(86_400))
        #expect(times(soon) == [1_088_200, 1_088_200])
        #expect(soon.remembered.seconds == 1_001_800)
    }

    @Test("Art. 5(1)(e): the catalog remembers the latest time, never an earlier one, and a server takes it up")
    func remembered() async throws {
        let rights = try Rights()
        await rights.recorder.tidy()
        let noted = try await rights.recorder.catalog.read { try $0.latestTime() }
        #expect(noted != nil)
        let ahead = rights.recorder.clock.now + .seconds(7_200)
        try await rights.recorder.catalog.write { db in
            try db.note(latest: ahead)
            try db.note(latest: WallTime(seconds: 5))
        }
        await rights.recorder.shutDown()
        let again = try Rights.recorder(rights.data)
        #expect(again.clock.now >= ahead)
        await again.shutDown()
    }
}
