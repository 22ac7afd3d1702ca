import JobQueue
import TestSupport
import Testing

@Suite("Job queue against a reference model")
struct JobModelTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    @Test("any history leaves exactly what the transition table says, lost leases and clock steps change nothing", arguments: 0..<10 as Range<UInt64>)
    func histories(seed: UInt64) async throws {
        var history = JobHistory(seed: seed, steps: 600)
        #expect(try await history.run(on: StoreKind.sqliteInMemory.make(folder)) == [])
        #expect(history.ends.isSuperset(of: [.done, .cancelled, .failed]), "the history goes somewhere")
    }

    @Test("the model agrees with a database in a file as well")
    func file() async throws {
        var history = JobHistory(seed: 99, steps: 80)
        #expect(try await history.run(on: StoreKind.sqliteInFile.make(folder)) == [])
    }
}
