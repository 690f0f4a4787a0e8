-- The tenants and days that metrics are taken of: those that have come to their end by the clock, or with :only_taken those
-- that were announced before. grace: the one that was announced. A working table.
-- Grain: one row per tenant whose days reach to :first_day. Uses tenants_pkey, metric_reach_pkey.
SELECT x.tenant_id, x.timezone, platform.day_end(x.first_day - 1, x.timezone) AS before, x.first_day, x.last_day, x.hours,
    x.grace
FROM (
    SELECT r.tenant_id, t.timezone, CAST(:first_day AS date) AS first_day,
        least(CAST(:last_day AS date), CASE WHEN CAST(:only_taken AS boolean) THEN k.newest_day
            ELSE litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone) END) AS last_day,
        litigation.service_hours(r.tenant_id, CAST(:hours AS jsonb)) AS hours, k.grace
    FROM raw.tenants AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    JOIN litigation.metric_reach AS k ON k.tenant_id = r.tenant_id
    WHERE r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
) AS x
WHERE x.first_day <= x.last_day
