extension CatalogSchema {
    /// Recordings that are to be made again, one after the other, when there is time for it.
    static let batches = """
        CREATE TABLE batch (
          id TEXT NOT NULL PRIMARY KEY,
          -- What they are made by from then on; nothing: each by its own.
          pipeline TEXT,
          created_at INTEGER NOT NULL,
          cancelled_at INTEGER
        );
        CREATE TABLE batch_recording (
          batch TEXT NOT NULL REFERENCES batch (id),
          recording TEXT NOT NULL REFERENCES recording (id),
          position INTEGER NOT NULL,
          state TEXT NOT NULL CHECK (state IN ('waiting','begun','done','failed','skipped')),
          reason TEXT,
          PRIMARY KEY (batch, recording)
        ) WITHOUT ROWID;
        CREATE INDEX batch_recording_open ON batch_recording (state, batch, position) WHERE state IN ('waiting','begun');
        """
}
