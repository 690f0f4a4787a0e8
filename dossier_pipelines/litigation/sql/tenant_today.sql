-- Which day it is for a tenant, and whether :hour of it has come. Grain: one row. Uses tenants_pkey.
SELECT d.today, m.present >= (d.today + make_time(CAST(:hour AS integer), 0, 0)) AT TIME ZONE t.timezone AS come
FROM platform.tenants AS t
CROSS JOIN LATERAL (SELECT coalesce(t.clock_at, CAST(:now AS timestamptz)) AS present) AS m
CROSS JOIN LATERAL (SELECT CAST(m.present AT TIME ZONE t.timezone AS date) AS today) AS d
WHERE t.tenant_id = :tenant_id
