-- Which day it is for a tenant, whether :hour of it has come, from when on what comes is told: then, or now if that is
-- earlier, and to when: :hour of the next day. Grain: one row. Uses tenants_pkey.
SELECT d.today, m.present >= w.hour AS come, least(m.present, w.hour) AS begins,
    (d.today + 1 + make_time(CAST(:hour AS integer), 0, 0)) AT TIME ZONE t.timezone AS ends
FROM platform.tenants AS t
CROSS JOIN LATERAL (SELECT coalesce(t.clock_at, CAST(:now AS timestamptz)) AS present) AS m
CROSS JOIN LATERAL (SELECT CAST(m.present AT TIME ZONE t.timezone AS date) AS today) AS d
CROSS JOIN LATERAL (
    SELECT (d.today + make_time(CAST(:hour AS integer), 0, 0)) AT TIME ZONE t.timezone AS hour
) AS w
WHERE t.tenant_id = :tenant_id
