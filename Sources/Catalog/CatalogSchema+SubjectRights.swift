extension CatalogSchema {
    /// Restriction (Art. 18), and the ways by which a person is found in every table (Art. 15, 33).
    static let subjectRights = """
        CREATE TABLE restriction (
          id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
          recording TEXT NOT NULL REFERENCES recording (id),
          reason TEXT NOT NULL CHECK (reason IN ('accuracy','unlawful','legal-claims','objection')),
          -- For whom; nothing: it is the controller's own.
          participant TEXT REFERENCES participant (id),
          placed_by TEXT NOT NULL,
          placed_at INTEGER NOT NULL,
          until INTEGER NOT NULL CHECK (until > placed_at),
          lifted_at INTEGER,
          -- When what had to wait for its end was done.
          settled_at INTEGER
        );
        CREATE UNIQUE INDEX restriction_open ON restriction (recording) WHERE settled_at IS NULL;
        -- The code of a declared minor's guardian.
        ALTER TABLE access_token ADD COLUMN is_guardian INTEGER NOT NULL DEFAULT 0 CHECK (is_guardian IN (0, 1));
        CREATE INDEX stream_participant_participant ON stream_participant (participant);
        CREATE INDEX rendition_member_participant ON rendition_member (participant);
        CREATE INDEX consent_event_participant ON consent_event (participant);
        CREATE INDEX download_rendition ON download (rendition);
        CREATE INDEX download_participant ON download (participant);
        """
}
