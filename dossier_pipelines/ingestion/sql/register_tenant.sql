-- Make a tenant known, or bring its time zone and clock up to date. Grain: one tenant. Uses tenants_pkey.
INSERT INTO platform.tenants AS t (tenant_id, timezone, clock_at)
VALUES (:tenant_id, :timezone, CAST(:clock_at AS timestamptz))
ON CONFLICT (tenant_id) DO UPDATE SET timezone = excluded.timezone, clock_at = excluded.clock_at
WHERE (t.timezone, t.clock_at) IS DISTINCT FROM (excluded.timezone, excluded.clock_at)
