-- A backfill that came to its end need not know any more what it had done. Grain: one row per chunk.
DELETE FROM dossiers.snapshot_chunks WHERE backfill_id = :backfill_id
