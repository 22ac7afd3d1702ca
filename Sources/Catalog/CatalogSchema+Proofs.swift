extension CatalogSchema {
    /// The proof of consents has an end as well: a history goes as a whole, when its recording has been over for as long as the policy says.
    static let proofs = """
        -- When everything of a recording was gone: from then on the proof of its consents is counted.
        ALTER TABLE recording ADD COLUMN erased_at INTEGER;
        UPDATE recording SET erased_at = expires_at WHERE state = 'erased';
        UPDATE recording SET erased_at = told.at FROM (SELECT object, MAX(at) AS at FROM audit_event WHERE action = 'recording.erased' GROUP BY object) AS told
          WHERE told.object = recording.id AND state = 'erased';
        -- When the proof went.
        ALTER TABLE recording ADD COLUMN proof_erased_at INTEGER;
        CREATE INDEX recording_proof ON recording (erased_at) WHERE erased_at IS NOT NULL AND proof_erased_at IS NULL;
        DROP TRIGGER consent_event_delete;
        CREATE TRIGGER consent_event_delete BEFORE DELETE ON consent_event
        WHEN NOT EXISTS (SELECT 1 FROM recording WHERE id = OLD.recording AND state = 'erased' AND proof_erased_at IS NOT NULL)
        BEGIN SELECT RAISE(ABORT, 'consent events are append-only'); END;
        CREATE TRIGGER consent_event_over BEFORE INSERT ON consent_event
        WHEN EXISTS (SELECT 1 FROM recording WHERE id = NEW.recording AND proof_erased_at IS NOT NULL)
        BEGIN SELECT RAISE(ABORT, 'the proof of this recording''s consents has ended'); END;
        -- What of the log names consents goes with them.
        CREATE INDEX audit_event_consent ON audit_event (object) WHERE action LIKE 'consent.%';
        -- Without it each signed checkpoint would look through the whole log for the key that was named first.
        CREATE INDEX audit_event_key ON audit_event (action) WHERE action = 'audit.key';
        CREATE INDEX access_token_participant ON access_token (participant) WHERE participant IS NOT NULL;
        """
}
