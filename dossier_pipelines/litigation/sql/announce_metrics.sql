-- Note how far the metrics will reach; returns the tenants that were not told so far before.
-- Grain: one row per tenant whose reach grew. Uses metric_reach_pkey.
INSERT INTO litigation.metric_reach AS k (tenant_id, newest_day)
SELECT r.tenant_id,
    least(CAST(:last_day AS date), litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone))
FROM raw.tenants AS r
JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
WHERE r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
ON CONFLICT (tenant_id) DO UPDATE SET newest_day = excluded.newest_day WHERE k.newest_day < excluded.newest_day
RETURNING k.tenant_id
