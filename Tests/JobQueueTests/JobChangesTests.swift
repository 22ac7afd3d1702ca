import Foundation
@testable import JobQueue
import Media
import Synchronization
import TestSupport
import Testing

@Suite("Changes of jobs, between processes")
struct JobChangesTests {
    private final class Rings: Sendable { let count = Atomic(0) }

    @Test("to ask whether a worker lives wakes nobody, a change wakes everybody, and so does a worker's end")
    func asking() async throws {
        let folder = try TemporaryFolder()
        let (here, there) = (try JobChanges(folder: folder.url), try JobChanges(folder: folder.url))
        let path = try #require(here.seat(of: .random())).path
        var seat: LockedFile? = try LockedFile(path)
        let bell = Bell()
        there.subscribe(bell)
        let rings = Rings()
        let listening = Task {
            while !Task.isCancelled {
                await bell.park()
                rings.count.add(1, ordering: .relaxed)
            }
        }
        func rung(more than: Int) async throws { while rings.count.load(ordering: .relaxed) <= than { try await Task.sleep(for: .milliseconds(5)) } }
        for _ in 0..<5 { #expect(!LockedFile.isFree(path)) }
        try await Task.sleep(for: .milliseconds(200))
        #expect(rings.count.load(ordering: .relaxed) == 0)
        here.ring()
        try await rung(more: 0)
        try await Task.sleep(for: .milliseconds(50))
        let before = rings.count.load(ordering: .relaxed)
        #expect(seat != nil)
        seat = nil
        try await rung(more: before)
        #expect(LockedFile.isFree(path))
        listening.cancel()
    }
}
