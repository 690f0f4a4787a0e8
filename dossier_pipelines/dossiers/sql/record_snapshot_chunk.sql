-- Note that the backfill has done the chunk. Grain: one row.
INSERT INTO dossiers.snapshot_chunks (backfill_id, first_day, last_day, written)
VALUES (:backfill_id, :first_day, :last_day, :written)
ON CONFLICT DO NOTHING
