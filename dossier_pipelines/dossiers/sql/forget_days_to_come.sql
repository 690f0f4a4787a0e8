-- Forget the snapshots of days that have not come: a tenant moved west. They are taken when they end there.
-- Grain: one row per tenant and day. Uses snapshot_days_pkey.
DELETE FROM dossiers.snapshot_days AS d
USING platform.tenants AS t
WHERE d.tenant_id = t.tenant_id
    AND d.day > CAST(coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone AS date)
