import GRDB
import Media

/// The list of downloads.
///
/// What one participant reads of one rendition is one entry, in however many ranges and over however many connections, as long as no two reads
/// are more than half an hour apart and the first is less than a day ago: a player that seeks is one download, and so is a download that is
/// resumed; coming back tomorrow is another.
extension Database {
    public static let downloadPause = Nanoseconds.seconds(1_800)
    public static let downloadLength = Nanoseconds.seconds(86_400)

    /// Enters a read before its first byte leaves, in the log too where it begins an entry; the entry's id is returned.
    ///
    /// `actor`: who asked, where that is not the participant themself (a guardian).
    public func beginDownload(rendition: String, of recording: String, participant: String, actor: String, now: WallTime) throws -> Int64 {
        if let id = try Int64.fetchOne(self, sql: "SELECT id FROM download WHERE rendition = ? AND participant = ? AND last_at > ? AND at > ? ORDER BY id DESC LIMIT 1",
                                       arguments: [rendition, participant, (now - Self.downloadPause).nanoseconds, (now - Self.downloadLength).nanoseconds]) {
            try execute(sql: "UPDATE download SET last_at = ?, reads = reads + 1 WHERE id = ?", arguments: [now.nanoseconds, id])
            return id
        }
        try execute(sql: "INSERT INTO download (rendition, participant, first, bytes, is_whole, at, last_at) VALUES (?, ?, 0, 0, 0, ?, ?)",
                    arguments: [rendition, participant, now.nanoseconds, now.nanoseconds])
        let id = lastInsertedRowID
        try AuditLog.append(actor: actor, action: AuditLog.downloadAction, object: rendition, detail: recording, now: now, self)
        return id
    }

    /// Adds bytes that left. `isEnd`: the read came to the end of what was asked for.
    public func continueDownload(_ id: Int64, bytes: Int, isEnd: Bool, now: WallTime) throws {
        try execute(sql: "UPDATE download SET bytes = bytes + ?, is_whole = MAX(is_whole, ?), last_at = MAX(last_at, ?) WHERE id = ?", arguments: [bytes, isEnd, now.nanoseconds, id])
    }
}
