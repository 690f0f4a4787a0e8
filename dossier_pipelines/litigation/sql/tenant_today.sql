-- Which day it is for a tenant. Grain: one row, or none. Uses tenants_pkey.
SELECT CAST(coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone AS date) AS today
FROM raw.tenants AS r
JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
WHERE r.tenant_id = :tenant_id
