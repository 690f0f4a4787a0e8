-- Whether an earlier run of the backfill did the chunk. Grain: one row or none. Uses snapshot_chunks_pkey.
SELECT c.committed_at FROM dossiers.snapshot_chunks AS c
WHERE c.backfill_id = :backfill_id AND c.first_day = :first_day AND c.last_day = :last_day
