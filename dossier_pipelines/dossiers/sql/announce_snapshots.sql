-- Note how far the snapshots will reach. Grain: one row per tenant. Uses snapshot_reach_pkey.
INSERT INTO dossiers.snapshot_reach AS r (tenant_id, newest_day)
SELECT t.tenant_id,
    least(
        CAST(:last_day AS date),
        CAST(coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone AS date)
    ) AS newest_day
FROM platform.tenants AS t
WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
ON CONFLICT (tenant_id) DO UPDATE SET newest_day = excluded.newest_day WHERE r.newest_day < excluded.newest_day
