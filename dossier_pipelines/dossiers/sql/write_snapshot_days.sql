-- Note of which days there is a snapshot; a tenant without dossiers has them too, so that one that comes late is
-- noticed. Grain: one row per tenant and day. Uses snapshot_days_pkey.
INSERT INTO dossiers.snapshot_days (tenant_id, day, year)
SELECT t.tenant_id, CAST(d.day AS date), CAST(date_trunc('year', d.day) AS date)
FROM platform.tenants AS t
CROSS JOIN LATERAL generate_series(
    CAST(CAST(:first_day AS date) AS timestamp),
    CAST(least(
        CAST(:last_day AS date),
        CAST(coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone AS date)
    ) AS timestamp),
    interval '1 day'
) AS d (day)
WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
ON CONFLICT DO NOTHING
