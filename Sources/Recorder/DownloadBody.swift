import Catalog
import GRDB
import Media
import Renditions

/// A rendition on its way to one reader: entered in the list of downloads before its first byte leaves, and the right to read it asked again
/// while it runs.
///
/// A reader who hangs up ends it without a word: the entry is there, and its bytes count as of the last look.
actor DownloadBody {
    private let opened: OpenRendition
    private let range: Range<Int>
    private let rendition: RenditionID
    private let principal: Principal
    private let participant: ParticipantID
    private let recorder: Recorder
    private var at: Int
    private var checked: WallTime?
    private var entry: Int64?
    /// Bytes of this read that its entry does not know of yet.
    private var uncounted = 0

    init(_ opened: OpenRendition, _ range: Range<Int>, _ rendition: RenditionID, _ principal: Principal, _ participant: ParticipantID, _ recorder: Recorder) {
        (self.opened, self.range, self.rendition, self.principal, self.participant, self.recorder) = (opened, range, rendition, principal, participant, recorder)
        at = range.lowerBound
    }

    func next() async throws -> [UInt8]? {
        guard at < range.upperBound else {
            try await count(isEnd: true)
            return nil
        }
        do {
            let now = recorder.clock.now
            if checked.map({ (now - $0).seconds >= Recorder.recheckSeconds }) ?? true {
                let (_, record) = try await recorder.readable(rendition, principal)
                if entry == nil { entry = try await recorder.beginDownload(rendition, of: record.id, participant, principal) } else { try await count(isEnd: false) }
                checked = now
            }
            let (from, opened, length) = (at, opened, min(1 << 16, range.upperBound - at))
            let chunk = try await BlockingWork.run { try opened.read(at: from, count: length) }
            at += chunk.count
            uncounted += chunk.count
            return chunk
        } catch {
            // Who read is entered already; that is what must not be lost.
            try? await count(isEnd: false)
            throw error
        }
    }

    private func count(isEnd: Bool) async throws {
        guard let entry else { return }
        let (bytes, now) = (uncounted, recorder.clock.now)
        try await recorder.catalog.write { try $0.continueDownload(entry, bytes: bytes, isEnd: isEnd, now: now) }
        uncounted -= bytes
    }
}

extension Recorder {
    /// A withdrawal takes a rendition out of reach and tells those who read it, in one transaction: a read is entered before it, and told, or
    /// comes after it and is refused.
    func beginDownload(_ id: RenditionID, of recording: String, _ participant: ParticipantID, _ principal: Principal) async throws -> Int64 {
        let now = clock.now
        return try await catalog.write { db in
            guard try String.fetchOne(db, sql: "SELECT state FROM rendition WHERE id = ?", arguments: [id.rawValue]) == "ready" else {
                throw RecorderError(.gone, "this version of the recording is gone")
            }
            return try db.beginDownload(rendition: id.rawValue, of: recording, participant: participant.rawValue, actor: principal.subject, now: now)
        }
    }
}
