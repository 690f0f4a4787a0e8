-- The values of each tenant's metrics over a range of days, as detectors read them. offsets count from :from_day.
-- Grain: one row per tenant and metric. Uses daily_metrics_pkey by a range per tenant.
SELECT v.tenant_id, v.metric, array_agg(v.day - CAST(:from_day AS date) ORDER BY v.day) AS offsets,
    array_agg(v.value ORDER BY v.day) AS values
FROM litigation.daily_metrics AS v
WHERE v.day BETWEEN CAST(:from_day AS date) AND CAST(:to_day AS date)
    AND v.tenant_id IN (
        SELECT k.tenant_id FROM litigation.metric_reach AS k
        WHERE k.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
    )
GROUP BY v.tenant_id, v.metric
ORDER BY v.tenant_id, v.metric
