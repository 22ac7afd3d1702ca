import GRDB
import Media

extension JobStore {
    /// Takes the jobs of groups named `prefix#…` from their workers: those find their lease lost, and discard.
    public static func interrupt(prefix: String, _ db: Database) throws {
        try db.execute(sql: "UPDATE job SET state = 'available', lease_expires = NULL, releases = releases + 1 WHERE job_group > ? || '#' AND job_group < ? || '$' AND state = 'running'",
                       arguments: [prefix, prefix])
    }

    /// Gives a job back, not to be tried before `date`; false where the lease is lost.
    public static func postpone(_ lease: Lease, until date: WallTime, _ db: Database) throws -> Bool {
        try db.execute(sql: "UPDATE job SET state = 'available', lease_expires = NULL, releases = releases + 1, run_after = ? WHERE id = ? AND lease_token = ? AND state = 'running'",
                       arguments: [date.nanoseconds, lease.job.rawValue, lease.token])
        return db.changesCount == 1
    }

    /// Lets what was postponed run now.
    public static func hasten(prefix: String, now: WallTime, _ db: Database) throws {
        try db.execute(sql: "UPDATE job SET run_after = ? WHERE job_group > ? || '#' AND job_group < ? || '$' AND state = 'available' AND run_after > ?",
                       arguments: [now.nanoseconds, prefix, prefix, now.nanoseconds])
    }
}
