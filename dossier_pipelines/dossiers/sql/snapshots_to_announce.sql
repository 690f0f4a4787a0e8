-- The tenants whose snapshots will reach further than they were told to. Grain: one row per tenant.
-- Uses snapshot_reach_pkey.
SELECT t.tenant_id
FROM platform.tenants AS t
LEFT JOIN dossiers.snapshot_reach AS r ON r.tenant_id = t.tenant_id
WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
    AND coalesce(r.newest_day, '-infinity') < least(
        CAST(:last_day AS date),
        CAST(coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone AS date)
    )
