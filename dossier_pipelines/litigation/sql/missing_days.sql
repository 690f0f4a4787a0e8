-- The days that have come to their end for some tenant and have no metrics of it: the newest, and those of the week before
-- it that a tenant with older metrics lacks. Grain: one row per day. Uses daily_metrics_pkey, probes by tenant and day.
SELECT DISTINCT d.day
FROM raw.tenants AS r
JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
CROSS JOIN LATERAL (
    SELECT litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone) AS newest
) AS m
CROSS JOIN LATERAL (SELECT m.newest - b.back AS day FROM generate_series(0, 6) AS b (back)) AS d
WHERE NOT EXISTS (
        SELECT FROM litigation.daily_metrics AS x
        WHERE x.tenant_id = r.tenant_id AND x.metric = 'case_count' AND x.day = d.day
    )
    AND (d.day = m.newest OR EXISTS (
        SELECT FROM litigation.daily_metrics AS x
        WHERE x.tenant_id = r.tenant_id AND x.metric = 'case_count' AND x.day < d.day
    ))
    AND EXISTS (SELECT FROM raw.cases AS c WHERE c.tenant_id = r.tenant_id)
ORDER BY d.day
