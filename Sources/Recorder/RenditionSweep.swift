import Catalog
import Foundation
import GRDB
import Logging
import Media

extension Recorder {
    /// Most renditions that one look at the clock ends together.
    static let renditionSweepMax = 4_000

    /// Ends renditions whose own date comes before their recording's: the class of their output, or a consent in them, is shorter.
    ///
    /// What ends with its recording is that one's to end: its receipt names it.
    ///
    /// Out of reach in one transaction, then key, then file; a kill in between is made good at the next start, like a superseded version's.
    func sweepRenditions(pastDateAt now: WallTime) async throws {
        let ended = try await catalog.write { db in
            let due = try Row.fetchAll(db, sql: """
                UPDATE rendition SET state = 'erased' WHERE id IN (
                  SELECT rendition.id FROM rendition JOIN recording ON recording.id = rendition.recording
                  WHERE rendition.state = 'ready' AND rendition.expires_at <= ?1 AND recording.expires_at > ?1 AND recording.state NOT IN ('expired','erased')
                  AND NOT EXISTS (SELECT 1 FROM restriction WHERE restriction.recording = recording.id AND settled_at IS NULL AND lifted_at IS NULL AND until > ?1)
                  ORDER BY rendition.expires_at LIMIT ?2)
                RETURNING id, recording
                """, arguments: [now.nanoseconds, Self.renditionSweepMax])
            let byRecording = Dictionary(grouping: due) { $0["recording"] as String }
            for recording in byRecording.keys.sorted() {
                try AuditLog.append(actor: "retention", action: "rendition.expired", object: recording, detail: "\(byRecording[recording]?.count ?? 0)", now: now, db)
            }
            return byRecording.mapValues { $0.map { $0["id"] as String } }
        }
        for (recording, renditions) in ended.sorted(by: { $0.key < $1.key }) {
            guard let id = RecordingID(rawValue: recording) else { continue }
            do { try await shred(renditions, of: id) } catch {
                // Out of reach they are; key and file go with the next start.
                logger.error("a rendition past its date could not be erased", metadata: ["recording": "\(id)", "error": "\(error)"])
            }
        }
    }
}
