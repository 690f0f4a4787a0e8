-- How long late records wait to be in the snapshots. Grain: one row. Reads the marks that wait, which are few.
SELECT count(*) AS marks,
    extract(epoch FROM clock_timestamp() - min(m.marked_at)) AS oldest_seconds,
    extract(epoch FROM clock_timestamp() - max(m.marked_at)) AS newest_seconds
FROM dossiers.snapshot_marks AS m
WHERE EXISTS (SELECT FROM platform.tenants AS t WHERE t.tenant_id = m.tenant_id)
