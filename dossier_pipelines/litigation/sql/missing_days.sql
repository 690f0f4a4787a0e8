-- The days that have come to their end for a tenant, from :since on, and have no metrics of it: those after its last one,
-- gaps of the last week, and the newest for a tenant that has none yet; none from before its first case.
-- Grain: one row per tenant and unbroken run of days. Uses daily_metrics_pkey by probes of a tenant and day, cases_pkey by
-- probes of a tenant.
SELECT x.tenant_id, min(x.day) AS first_day, max(x.day) AS last_day
FROM (
    SELECT d.tenant_id, d.day, d.day - CAST(row_number() OVER (PARTITION BY d.tenant_id ORDER BY d.day) AS integer) AS unbroken
    FROM (
        SELECT r.tenant_id, t.timezone, CAST(g.day AS date) AS day
        FROM raw.tenants AS r
        JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
        CROSS JOIN LATERAL (
            SELECT litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone) AS newest OFFSET '0'
        ) AS m
        LEFT JOIN LATERAL (
            SELECT y.day FROM litigation.daily_metrics AS y
            WHERE y.tenant_id = r.tenant_id AND y.day < m.newest ORDER BY y.day DESC LIMIT 1
        ) AS last ON true
        LEFT JOIN LATERAL (
            SELECT y.day FROM litigation.daily_metrics AS y
            WHERE y.tenant_id = r.tenant_id AND y.day < m.newest ORDER BY y.day LIMIT 1
        ) AS oldest ON true
        CROSS JOIN LATERAL (
            SELECT CASE WHEN last.day IS NULL THEN m.newest ELSE greatest(least(last.day + 1, m.newest - 6), oldest.day) END AS day
        ) AS f
        CROSS JOIN LATERAL generate_series(
            CAST(greatest(f.day, CAST(:since AS date)) AS timestamp), CAST(m.newest AS timestamp), interval '1 day'
        ) AS g (day)
    ) AS d
    LEFT JOIN LATERAL (
        SELECT true AS taken FROM litigation.daily_metrics AS y
        WHERE y.tenant_id = d.tenant_id AND y.day = d.day AND y.metric = 'case_count' LIMIT 1
    ) AS w ON true
    LEFT JOIN LATERAL (
        SELECT true AS known FROM raw.cases AS c
        WHERE w.taken IS NULL AND c.tenant_id = d.tenant_id AND c.created_at <= platform.day_end(d.day, d.timezone) LIMIT 1
    ) AS c ON true
    WHERE w.taken IS NULL AND c.known
) AS x
GROUP BY x.tenant_id, x.unbroken
ORDER BY x.tenant_id, min(x.day)
