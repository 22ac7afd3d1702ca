import Synchronization

/// Bars of several things at once, set from several threads.
final class ProgressBoard: Sendable {
    private let rows: Mutex<[(name: String, share: Double, note: String)]>

    init(names: [String]) { rows = Mutex(names.map { ($0, 0, "") }) }

    func set(_ place: Int, _ share: Double, _ note: String) {
        rows.withLock { rows in
            rows[place].share = share
            rows[place].note = note
            Terminal.shared.bars(rows)
        }
    }
}
