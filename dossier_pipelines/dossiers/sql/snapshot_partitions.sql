-- The partitions of dossiers.snapshot_spans. Grain: one row per partition, as their names say one a year.
SELECT CAST(c.relname AS text) AS name
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST('dossiers.snapshot_spans' AS regclass)
ORDER BY c.relname
