-- The tenants and days that metrics are taken of. A working table. Grain: one row per tenant whose clock has come to
-- :first_day. Uses tenants_pkey.
SELECT x.tenant_id, x.timezone, platform.day_end(x.first_day - 1, x.timezone) AS before, x.first_day, x.last_day, x.hours
FROM (
    SELECT r.tenant_id, t.timezone, CAST(:first_day AS date) AS first_day,
        least(
            CAST(:last_day AS date), litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone)
        ) AS last_day,
        litigation.service_hours(r.tenant_id, CAST(:hours AS jsonb)) AS hours
    FROM raw.tenants AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    WHERE r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
) AS x
WHERE x.first_day <= x.last_day
