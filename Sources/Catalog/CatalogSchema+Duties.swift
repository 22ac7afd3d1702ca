extension CatalogSchema {
    /// Who read what, who has to be told of what (Art. 19), receipts of one person's erasure.
    static let dutiesToTell = """
        -- A download is one entry, however many ranges it is read in.
        ALTER TABLE download ADD COLUMN last_at INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE download ADD COLUMN reads INTEGER NOT NULL DEFAULT 1 CHECK (reads > 0);
        UPDATE download SET last_at = at;
        CREATE INDEX download_at ON download (at);
        -- What of the log is about downloads and about who was told goes with the list of downloads.
        CREATE INDEX audit_event_reading ON audit_event (at) WHERE action IN ('download','recipient.told','recipient.mailed');
        ALTER TABLE meeting ADD COLUMN moderator TEXT;
        UPDATE meeting SET moderator = actor FROM audit_event WHERE action = 'meeting.created' AND object = meeting.id;
        -- Where a person can be reached: of a participant it goes with their identity.
        CREATE TABLE contact (
          subject TEXT NOT NULL PRIMARY KEY,
          participant TEXT UNIQUE REFERENCES identity (participant) ON DELETE CASCADE,
          address TEXT NOT NULL CHECK (length(address) BETWEEN 3 AND 254),
          language TEXT NOT NULL CHECK (language IN ('de','en')),
          CHECK (participant IS NULL OR participant = subject)
        );
        -- What somebody has to be told: entered in the transaction that causes it, once for each person and event.
        CREATE TABLE notification (
          id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 32),
          recipient TEXT NOT NULL,
          event TEXT NOT NULL,
          kind TEXT NOT NULL CHECK (kind IN ('withdrawn','corrected','expiring')),
          recording TEXT NOT NULL REFERENCES recording (id),
          -- The moderator's, or a participant's.
          is_moderators INTEGER NOT NULL CHECK (is_moderators IN (0, 1)),
          created_at INTEGER NOT NULL,
          attempts INTEGER NOT NULL DEFAULT 0,
          next_at INTEGER NOT NULL,
          sent_at INTEGER,
          -- Refused for good by the mail server.
          failed_at INTEGER,
          -- Read on the person's own page.
          seen_at INTEGER,
          UNIQUE (recipient, event)
        );
        CREATE INDEX notification_waiting ON notification (next_at) WHERE sent_at IS NULL AND failed_at IS NULL AND seen_at IS NULL;
        CREATE INDEX notification_created ON notification (created_at);
        -- For which dates and thresholds those concerned were warned; a release later makes more of them concerned.
        CREATE TABLE expiry_warning (
          recording TEXT NOT NULL REFERENCES recording (id),
          days INTEGER NOT NULL CHECK (days > 0),
          expires_at INTEGER NOT NULL,
          released_at INTEGER NOT NULL,
          PRIMARY KEY (recording, days, expires_at, released_at)
        ) WITHOUT ROWID;
        CREATE TABLE person_receipt (
          recording TEXT NOT NULL REFERENCES recording (id),
          participant TEXT NOT NULL REFERENCES participant (id),
          receipt TEXT NOT NULL,
          -- Nothing while it is being carried out.
          finished_at INTEGER,
          PRIMARY KEY (recording, participant)
        ) WITHOUT ROWID;
        -- When it was forgotten where a recording's media came from.
        ALTER TABLE recording ADD COLUMN technical_erased_at INTEGER;
        CREATE INDEX recording_technical ON recording (stopped_at) WHERE technical_erased_at IS NULL;
        CREATE INDEX access_token_expiry ON access_token (expires_at);
        """
}
