-- The values of each tenant's metrics over a range of days, as detectors read them: a day without a value is null.
-- Grain: one row per tenant and metric. Uses daily_metrics_pkey by ranges.
SELECT s.tenant_id, s.metric, s.first_day, s.last_day, array_agg(v.value ORDER BY d.day) AS values
FROM (
    SELECT k.tenant_id, u.metric, CAST(:from_day AS date) AS first_day, least(CAST(:to_day AS date), k.newest_day) AS last_day
    FROM litigation.metric_reach AS k
    CROSS JOIN unnest(CAST(:metrics AS text[])) AS u (metric)
    WHERE k.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
) AS s
CROSS JOIN LATERAL (
    SELECT CAST(g AS date) AS day
    FROM generate_series(CAST(s.first_day AS timestamp), CAST(s.last_day AS timestamp), interval '1 day') AS g
) AS d
LEFT JOIN litigation.daily_metrics AS v ON v.tenant_id = s.tenant_id AND v.metric = s.metric AND v.day = d.day
GROUP BY s.tenant_id, s.metric, s.first_day, s.last_day
ORDER BY s.tenant_id, s.metric
