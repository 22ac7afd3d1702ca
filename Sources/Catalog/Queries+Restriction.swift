import GRDB
import Media

/// A recording that may only be kept, until a date (Art. 18).
public struct RestrictionRecord: CatalogRecord {
    public static let databaseTableName = "restriction"
    public var id: Int64?
    public var recording: String
    public var reason: String
    public var participant: String?
    public var placedBy: String
    public var placedAt: Int64
    public var until: Int64
    public var liftedAt: Int64?
    public var settledAt: Int64?

    public init(recording: String, reason: String, participant: String?, placedBy: String, placedAt: Int64, until: Int64) {
        self.recording = recording
        self.reason = reason
        self.participant = participant
        self.placedBy = placedBy
        self.placedAt = placedAt
        self.until = until
    }
}

extension Database {
    /// The restriction that holds: its end opens and destroys, so it comes by the settled time, not by a clock that was just set forward.
    public func restriction(of recording: String, settled: WallTime) throws -> RestrictionRecord? {
        try RestrictionRecord.fetchOne(cachedStatement(sql: "SELECT * FROM restriction WHERE recording = ? AND settled_at IS NULL AND lifted_at IS NULL AND until > ?"),
                                       arguments: [recording, settled.nanoseconds])
    }

    /// Restrictions that were lifted or ran out, and whose end was not acted on yet.
    public func restrictionsEnded(settled: WallTime) throws -> [RestrictionRecord] {
        try RestrictionRecord.fetchAll(self, sql: "SELECT * FROM restriction WHERE settled_at IS NULL AND (lifted_at IS NOT NULL OR until <= ?)", arguments: [settled.nanoseconds])
    }

    /// Enters a restriction; one that was there before gives way to it.
    public func place(_ restriction: RestrictionRecord) throws {
        try execute(sql: "UPDATE restriction SET lifted_at = COALESCE(lifted_at, ?1), settled_at = ?1 WHERE recording = ?2 AND settled_at IS NULL",
                    arguments: [restriction.placedAt, restriction.recording])
        try restriction.insert(self)
    }
}
