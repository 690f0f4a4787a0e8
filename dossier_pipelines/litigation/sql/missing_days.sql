-- The days that have come to their end for a tenant, from :since on, and have no metrics of it: those after its last one,
-- gaps of the last week, and the newest for a tenant that has none yet; none from before its first case.
-- Grain: one row per tenant and unbroken run of days. Uses daily_metrics_pkey, probes by tenant and day; cases_pkey.
SELECT x.tenant_id, min(x.day) AS first_day, max(x.day) AS last_day
FROM (
    SELECT r.tenant_id, d.day, d.day - CAST(row_number() OVER (PARTITION BY r.tenant_id ORDER BY d.day) AS integer) AS unbroken
    FROM raw.tenants AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    CROSS JOIN LATERAL (
        SELECT litigation.newest_whole_day(coalesce(t.clock_at, CAST(:now AS timestamptz)), t.timezone) AS newest
    ) AS m
    LEFT JOIN LATERAL (
        SELECT y.day FROM litigation.daily_metrics AS y
        WHERE y.tenant_id = r.tenant_id AND y.metric = 'case_count' AND y.day < m.newest
        ORDER BY y.day DESC LIMIT 1
    ) AS last ON true
    CROSS JOIN LATERAL (
        SELECT CAST(g.day AS date) AS day
        FROM generate_series(
            CAST(greatest(least(last.day + 1, m.newest - 6), CAST(:since AS date)) AS timestamp), CAST(m.newest AS timestamp),
            interval '1 day'
        ) AS g (day)
    ) AS d
    WHERE NOT EXISTS (
            SELECT FROM litigation.daily_metrics AS y
            WHERE y.tenant_id = r.tenant_id AND y.metric = 'case_count' AND y.day = d.day
        )
        AND (d.day = m.newest OR EXISTS (
            SELECT FROM litigation.daily_metrics AS y
            WHERE y.tenant_id = r.tenant_id AND y.metric = 'case_count' AND y.day < d.day
        ))
        AND EXISTS (
            SELECT FROM raw.cases AS c
            WHERE c.tenant_id = r.tenant_id AND c.created_at <= platform.day_end(d.day, t.timezone)
        )
) AS x
GROUP BY x.tenant_id, x.unbroken
ORDER BY x.tenant_id, min(x.day)
