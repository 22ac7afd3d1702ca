extension CatalogSchema {
    /// A stream that mixes people has whoever joined it; only who was in it while its gate was open is in what was recorded.
    static let presence = """
        -- Only a yes from then on opens the stream's gate: whoever comes back is asked again.
        ALTER TABLE stream_participant ADD COLUMN asked_at INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE stream_participant ADD COLUMN left_at INTEGER;
        -- Entered before the gate is opened. 1 for what is from before this column: everybody counted then.
        ALTER TABLE stream_participant ADD COLUMN is_recorded INTEGER NOT NULL DEFAULT 1 CHECK (is_recorded IN (0, 1));
        """
}
