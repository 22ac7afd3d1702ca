import Catalog
import Foundation
import GRDB
import Media

public struct BreachRequest: Codable, Sendable {
    /// Ids of recordings, tracks and renditions; 1 to 10,000.
    public var objects: [String]
    public init(objects: [String]) { self.objects = objects }
}

/// Who has to be told (Art. 33, 34).
public struct BreachView: Codable, Sendable {
    public struct Person: Codable, Sendable {
        public var participant: ParticipantID
        /// Nil once the link to the person is erased.
        public var name: String?
        public var meeting: MeetingID
        public var modalities: [Modality]
        /// Which of the objects asked for contain them.
        public var objects: [String]
    }
    /// Somebody who had read what contains the objects.
    public struct Recipient: Codable, Sendable {
        public var participant: ParticipantID
        public var name: String?
        public var rendition: RenditionID
        public var firstAt: Double
        public var lastAt: Double
        public var bytes: Int
    }
    public var affected: [Person]
    public var recipients: [Recipient]
    /// Ids that name no recording, track or rendition.
    public var unknown: [String]
}

extension Recorder {
    static let breachObjectsMax = 10_000

    public func affected(by request: BreachRequest, as principal: Principal) async throws -> BreachView {
        try require([.operator], principal)
        guard (1...Self.breachObjectsMax).contains(request.objects.count) else {
            throw RecorderError(.invalid, "\(request.objects.count) objects", hint: "1 to \(Self.breachObjectsMax) ids of recordings, tracks or renditions", pointer: "/objects")
        }
        let objects = request.objects.map { String($0.split(separator: ":").last ?? "") }  // `track:ID`, as receipts write it, too
        let now = clock.now
        return try await catalog.write { db in
            try AuditLog.append(actor: principal.subject, action: "breach.asked", object: "breach", detail: "\(objects.count) objects", now: now, db)
            return try Breach.view(of: objects, db)
        }
    }

    /// The same for the owner of the data folder, on this machine, while a server runs or not.
    public static func affected(by objects: [String], catalog path: String) throws -> BreachView {
        var configuration = Configuration()
        configuration.readonly = true
        configuration.prepareDatabase { try $0.execute(sql: "PRAGMA temp_store = MEMORY") }
        return try DatabaseQueue(path: path, configuration: configuration).read { try Breach.view(of: objects.map { String($0.split(separator: ":").last ?? "") }, $0) }
    }
}

/// Each id is looked up by the index of its table; what was erased meanwhile still counts: it may have been there when it happened.
enum Breach {
    static func view(of objects: [String], _ db: Database) throws -> BreachView {
        var found: [String: (modalities: Set<Modality>, objects: Set<String>)] = [:]
        var renditions: Set<String> = []
        var unknown: [String] = []
        for object in Set(objects).sorted() {
            let (people, read) = try look(object, db)
            if people.isEmpty, read.isEmpty, try !exists(object, db) { unknown.append(object) }
            renditions.formUnion(read)
            for (participant, modality) in people {
                found[participant, default: ([], [])].objects.insert(object)
                if let modality = Modality(rawValue: modality) { found[participant]?.modalities.insert(modality) }
            }
        }
        let affected = try found.sorted { $0.key < $1.key }.compactMap { id, what -> BreachView.Person? in
            guard let participant = ParticipantID(rawValue: id), let person = try ParticipantRecord.fetchOne(db, key: id), let meeting = MeetingID(rawValue: person.meeting) else { return nil }
            return BreachView.Person(participant: participant, name: try IdentityRecord.fetchOne(db, key: id)?.name, meeting: meeting,
                                     modalities: what.modalities.sorted { $0.rawValue < $1.rawValue }, objects: what.objects.sorted())
        }
        let recipients = try renditions.sorted().flatMap { rendition in
            try Row.fetchAll(db, sql: """
                SELECT download.participant AS participant, name, MIN(at) AS first_at, MAX(MAX(at, last_at)) AS last_at, SUM(bytes) AS bytes
                FROM download LEFT JOIN identity ON identity.participant = download.participant WHERE rendition = ? GROUP BY download.participant
                """, arguments: [rendition]).compactMap { row -> BreachView.Recipient? in
                guard let participant = ParticipantID(rawValue: row["participant"]), let id = RenditionID(rawValue: rendition) else { return nil }
                return BreachView.Recipient(participant: participant, name: row["name"], rendition: id, firstAt: WallTime(nanoseconds: row["first_at"]).seconds,
                                            lastAt: WallTime(nanoseconds: row["last_at"]).seconds, bytes: row["bytes"])
            }
        }
        return BreachView(affected: affected, recipients: recipients, unknown: unknown)
    }

    /// Who is in an object, by modality, and the renditions through which it can have been read.
    private static func look(_ object: String, _ db: Database) throws -> (people: [(String, String)], renditions: [String]) {
        func pairs(_ sql: String) throws -> [(String, String)] { try Row.fetchAll(db, sql: sql, arguments: [object]).map { ($0[0], $0[1]) } }
        // A stream from which nothing was kept affects nobody.
        let kept = "verdict IS NOT 'empty' AND verdict IS NOT 'not-consented'"
        let asRecording = try pairs("SELECT participant, kind FROM stream JOIN stream_participant ON stream = stream.id WHERE recording = ? AND \(kept)")
            + pairs("SELECT participant, modality FROM rendition JOIN rendition_member ON rendition = rendition.id WHERE recording = ?")
        let asTrack = try pairs("SELECT participant, kind FROM stream JOIN stream_participant ON stream = stream.id WHERE track = ? AND \(kept)")
        let asRendition = try pairs("SELECT participant, modality FROM rendition_member WHERE rendition = ?")
        let renditions = try String.fetchAll(db, sql: "SELECT id FROM rendition WHERE id = ?1 OR recording = ?1", arguments: [object])
            + String.fetchAll(db, sql: """
                SELECT rendition.id FROM stream JOIN stream_participant AS s ON s.stream = stream.id JOIN rendition ON rendition.recording = stream.recording
                JOIN rendition_member AS m ON m.rendition = rendition.id AND m.participant = s.participant AND m.modality = stream.kind WHERE stream.track = ?
                """, arguments: [object])
        return (asRecording + asTrack + asRendition, renditions)
    }

    private static func exists(_ object: String, _ db: Database) throws -> Bool {
        try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM recording WHERE id = ?1) OR EXISTS (SELECT 1 FROM stream WHERE track = ?1) OR EXISTS (SELECT 1 FROM rendition WHERE id = ?1)",
                          arguments: [object]) ?? false
    }
}
