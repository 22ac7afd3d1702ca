import GRDB
import JobQueue

/// The catalog's tables. A migration that was shipped is never edited.
enum CatalogSchema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("001 meetings, recordings, consent, renditions, jobs, audit") { db in
            try db.execute(sql: people)
            try db.execute(sql: recordings)
            try db.execute(sql: evidence)
            try SQLiteJobStore.createFirstTables(db)
        }
        migrator.registerMigration("002 evidence cannot be replaced, renditions never outlive their recording") { db in
            try db.execute(sql: chains)
            try db.execute(sql: expiry)
        }
        migrator.registerMigration("003 who may send is kept over a restart") { db in
            try db.execute(sql: "ALTER TABLE recording ADD COLUMN sources TEXT NOT NULL DEFAULT '[]'")
        }
        migrator.registerMigration("004 a stream's layers come to ports of their own") { db in
            // JSON list of the endpoints of the m-lines after the first.
            try db.execute(sql: "ALTER TABLE stream ADD COLUMN layers TEXT NOT NULL DEFAULT '[]'")
        }
        migrator.registerMigration("005 finished files as sources, and why a track came to nothing") { db in
            try db.execute(sql: files)
        }
        migrator.registerMigration("006 the audit log is a signed tree") { db in try AuditLog.migrate(db) }
        migrator.registerMigration("007 restriction, and finding a person everywhere") { db in
            try db.execute(sql: subjectRights)
        }
        migrator.registerMigration("008 downloads as entries, who is told what, receipts of persons") { db in
            try db.execute(sql: dutiesToTell)
        }
        migrator.registerMigration("009 how far the clock has come") { db in
            // One row: the latest time that anything was ended by. Time does not go back behind it, whatever the machine's clock says.
            try db.execute(sql: "CREATE TABLE service_clock (id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1), latest INTEGER NOT NULL)")
        }
        migrator.registerMigration("010 jobs have workers, lanes and states by name") { db in try SQLiteJobStore.createWorkers(db) }
        migrator.registerMigration("011 who is in a stream just now, and who was recorded in it") { db in
            try db.execute(sql: presence)
        }
        migrator.registerMigration("012 the proof of consents ends") { db in try db.execute(sql: proofs) }
        migrator.registerMigration("013 what a rendition was made of, and how long it took") { db in
            // The fingerprint of everything that decides its bytes: what would come out the same is not made again.
            try db.execute(sql: "ALTER TABLE rendition ADD COLUMN fingerprint TEXT; ALTER TABLE rendition ADD COLUMN made_seconds REAL")
            // The same of a composite's pictures alone: with another mix beside them they need not be encoded again.
            try db.execute(sql: "ALTER TABLE rendition ADD COLUMN picture_fingerprint TEXT")
        }
        migrator.registerMigration("014 batches") { db in try db.execute(sql: batches) }
        migrator.registerMigration("015 deaths of workers are counted for themselves") { db in try SQLiteJobStore.createLosses(db) }
        migrator.registerMigration("016 how far a job ever came") { db in try SQLiteJobStore.createFurthest(db) }
        return migrator
    }

    /// Where a finished file lies is known while its track is still to be made, and no longer.
    private static let files = """
        ALTER TABLE stream ADD COLUMN source TEXT;
        ALTER TABLE stream ADD COLUMN problem TEXT;
        CREATE TRIGGER stream_source_made AFTER UPDATE OF verdict ON stream WHEN NEW.verdict IS NOT NULL AND NEW.source IS NOT NULL
        BEGIN UPDATE stream SET source = NULL WHERE id = NEW.id; END;
        CREATE TRIGGER recording_sources_over AFTER UPDATE OF state ON recording WHEN NEW.state IN ('ready','failed','expired','erased')
        BEGIN UPDATE stream SET source = NULL WHERE recording = NEW.id AND source IS NOT NULL; END;
        """

    /// `INSERT OR REPLACE` deletes without asking the delete triggers: only the next place of a chain can be written, and a notice only once.
    private static let chains = """
        CREATE TRIGGER consent_event_insert BEFORE INSERT ON consent_event
        WHEN NEW.sequence <> (SELECT COALESCE(MAX(sequence), 0) + 1 FROM consent_event WHERE recording = NEW.recording)
        BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;
        CREATE TRIGGER audit_event_insert BEFORE INSERT ON audit_event
        WHEN NEW.sequence <> (SELECT COALESCE(MAX(sequence), 0) + 1 FROM audit_event)
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
        CREATE TRIGGER notice_insert BEFORE INSERT ON notice
        WHEN EXISTS (SELECT 1 FROM notice WHERE hash = NEW.hash AND text <> NEW.text)
        BEGIN SELECT RAISE(ABORT, 'a notice that was shown never changes'); END;
        CREATE TRIGGER notice_update BEFORE UPDATE ON notice BEGIN SELECT RAISE(ABORT, 'a notice that was shown never changes'); END;
        CREATE TRIGGER notice_delete BEFORE DELETE ON notice BEGIN SELECT RAISE(ABORT, 'a notice that was shown never changes'); END;
        """

    /// DESIGN.md invariant 3.
    private static let expiry = """
        CREATE TRIGGER rendition_expiry_insert BEFORE INSERT ON rendition
        WHEN NEW.expires_at > (SELECT expires_at FROM recording WHERE id = NEW.recording)
        BEGIN SELECT RAISE(ABORT, 'a rendition never outlives its recording'); END;
        CREATE TRIGGER rendition_expiry_update BEFORE UPDATE OF expires_at, recording ON rendition
        WHEN NEW.expires_at > (SELECT expires_at FROM recording WHERE id = NEW.recording)
        BEGIN SELECT RAISE(ABORT, 'a rendition never outlives its recording'); END;
        CREATE TRIGGER recording_expiry_update AFTER UPDATE OF expires_at ON recording
        BEGIN UPDATE rendition SET expires_at = NEW.expires_at WHERE recording = NEW.id AND expires_at > NEW.expires_at; END;
        """

    private static let people = """
        CREATE TABLE meeting (
          id TEXT NOT NULL PRIMARY KEY,
          title TEXT CHECK (length(title) <= 200),
          created_at INTEGER NOT NULL
        );
        CREATE TABLE participant (
          id TEXT NOT NULL PRIMARY KEY,
          meeting TEXT NOT NULL REFERENCES meeting (id),
          is_minor INTEGER NOT NULL CHECK (is_minor IN (0, 1)),
          created_at INTEGER NOT NULL
        );
        CREATE INDEX participant_meeting ON participant (meeting);
        -- The link from a pseudonym to a person: erasable alone.
        CREATE TABLE identity (
          participant TEXT NOT NULL PRIMARY KEY REFERENCES participant (id),
          name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
        );
        CREATE TABLE access_token (
          hash TEXT NOT NULL PRIMARY KEY CHECK (length(hash) = 64),
          role TEXT NOT NULL CHECK (role IN ('operator','moderator','participant','platform','grant')),
          subject TEXT NOT NULL,
          participant TEXT REFERENCES participant (id),
          meeting TEXT REFERENCES meeting (id),
          recording TEXT REFERENCES recording (id),
          purpose TEXT,
          created_at INTEGER NOT NULL,
          expires_at INTEGER NOT NULL,
          CHECK (role NOT IN ('participant','grant') OR (participant IS NOT NULL AND meeting IS NOT NULL)),
          CHECK ((role = 'grant') = (recording IS NOT NULL AND purpose IS NOT NULL))
        );
        """

    private static let recordings = """
        CREATE TABLE recording (
          id TEXT NOT NULL PRIMARY KEY,
          meeting TEXT NOT NULL REFERENCES meeting (id),
          pipeline TEXT NOT NULL,
          state TEXT NOT NULL CHECK (state IN ('recording','paused','processing','ready','failed','expired','erased')),
          retention_days INTEGER NOT NULL CHECK (retention_days > 0),
          started_at INTEGER NOT NULL,
          stopped_at INTEGER,
          expires_at INTEGER NOT NULL CHECK (expires_at > started_at),
          released_at INTEGER,
          problems TEXT NOT NULL DEFAULT '[]'
        );
        CREATE INDEX recording_meeting ON recording (meeting);
        CREATE INDEX recording_expiry ON recording (expires_at) WHERE state NOT IN ('erased');
        CREATE TABLE stream (
          id TEXT NOT NULL PRIMARY KEY,
          recording TEXT NOT NULL REFERENCES recording (id),
          position INTEGER NOT NULL,
          track TEXT NOT NULL UNIQUE,
          kind TEXT NOT NULL CHECK (kind IN ('audio','video','screen')),
          sdp TEXT NOT NULL,
          codec TEXT NOT NULL,
          format TEXT NOT NULL,
          -- Where it is sent, so that a restarted server listens at the same place again.
          address TEXT NOT NULL, rtp_port INTEGER NOT NULL, rtcp_port INTEGER NOT NULL,
          statistics TEXT,
          summary TEXT,
          verdict TEXT,
          file TEXT,
          bytes INTEGER,
          sha256 TEXT,
          UNIQUE (recording, position)
        );
        CREATE TABLE stream_participant (
          stream TEXT NOT NULL REFERENCES stream (id),
          participant TEXT NOT NULL REFERENCES participant (id),
          PRIMARY KEY (stream, participant)
        ) WITHOUT ROWID;
        CREATE TABLE rendition (
          id TEXT NOT NULL PRIMARY KEY,
          recording TEXT NOT NULL REFERENCES recording (id),
          stage TEXT NOT NULL,
          kind TEXT NOT NULL,
          output TEXT NOT NULL,
          container TEXT NOT NULL,
          purpose TEXT NOT NULL,
          bytes INTEGER NOT NULL CHECK (bytes >= 0),
          sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
          start_wall INTEGER NOT NULL,
          duration INTEGER NOT NULL CHECK (duration >= 0),
          width INTEGER, height INTEGER,
          loudness REAL,
          state TEXT NOT NULL CHECK (state IN ('ready','withdrawn','erased')),
          created_at INTEGER NOT NULL,
          expires_at INTEGER NOT NULL
        );
        CREATE INDEX rendition_recording ON rendition (recording);
        CREATE UNIQUE INDEX rendition_current ON rendition (recording, stage, output) WHERE state = 'ready';
        -- Whose media is in it, by modality.
        CREATE TABLE rendition_member (
          rendition TEXT NOT NULL REFERENCES rendition (id),
          participant TEXT NOT NULL REFERENCES participant (id),
          modality TEXT NOT NULL,
          PRIMARY KEY (rendition, participant, modality)
        ) WITHOUT ROWID;
        """

    private static let evidence = """
        CREATE TABLE notice (
          hash TEXT NOT NULL PRIMARY KEY CHECK (length(hash) = 64),
          version TEXT NOT NULL,
          language TEXT NOT NULL,
          text TEXT NOT NULL
        );
        CREATE TABLE consent_event (
          recording TEXT NOT NULL REFERENCES recording (id),
          sequence INTEGER NOT NULL CHECK (sequence > 0),
          participant TEXT NOT NULL REFERENCES participant (id),
          event TEXT NOT NULL,
          hash TEXT NOT NULL CHECK (length(hash) = 64),
          PRIMARY KEY (recording, sequence)
        ) WITHOUT ROWID;
        CREATE TRIGGER consent_event_update BEFORE UPDATE ON consent_event BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;
        CREATE TRIGGER consent_event_delete BEFORE DELETE ON consent_event BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;
        CREATE TABLE download (
          id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
          rendition TEXT NOT NULL REFERENCES rendition (id),
          participant TEXT NOT NULL REFERENCES participant (id),
          first INTEGER NOT NULL, bytes INTEGER NOT NULL,
          is_whole INTEGER NOT NULL CHECK (is_whole IN (0, 1)),
          at INTEGER NOT NULL
        );
        CREATE TABLE audit_event (
          sequence INTEGER NOT NULL PRIMARY KEY CHECK (sequence > 0),
          at INTEGER NOT NULL,
          actor TEXT NOT NULL,
          action TEXT NOT NULL,
          object TEXT NOT NULL,
          detail TEXT NOT NULL,
          salt TEXT NOT NULL,
          hash TEXT NOT NULL CHECK (length(hash) = 64)
        );
        CREATE TRIGGER audit_event_update BEFORE UPDATE ON audit_event BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
        CREATE TRIGGER audit_event_delete BEFORE DELETE ON audit_event BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
        CREATE TABLE receipt (
          recording TEXT NOT NULL PRIMARY KEY REFERENCES recording (id),
          receipt TEXT NOT NULL
        );
        """
}
