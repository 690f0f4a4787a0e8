-- The tenants and days, after those of the scope, whose anomalies have no records yet. A working table.
-- Grain: one row per tenant with such a day. Uses anomalies_pkey by probes.
SELECT s.tenant_id, s.timezone, platform.day_end(x.first_day - 1, s.timezone) AS before, x.first_day, x.last_day, s.hours,
    s.grace
FROM (
    SELECT l.tenant_id, min(l.day) AS first_day, max(l.day) AS last_day
    FROM (
        SELECT f.tenant_id COLLATE "C" AS tenant_id, f.metric, f.day
        FROM jsonb_to_recordset(CAST(:later AS jsonb)) AS f (tenant_id text, metric text, day date)
    ) AS l
    LEFT JOIN LATERAL (
        SELECT a.records FROM litigation.anomalies AS a
        WHERE a.tenant_id = l.tenant_id AND a.metric = l.metric AND a.day = l.day AND a.detector = 'weekday_robust'
        LIMIT 1
    ) AS a ON true
    WHERE a.records IS NULL
    GROUP BY l.tenant_id
) AS x
JOIN metric_scope AS s ON s.tenant_id = x.tenant_id
