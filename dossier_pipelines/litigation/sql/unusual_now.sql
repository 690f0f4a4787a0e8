-- What is unusual on the newest day of each tenant, by the robust detector. Grain: one row per tenant and metric.
-- Uses tenants_pkey, metric_reach_pkey, anomalies_pkey by probes.
SELECT a.day, a.tenant_id, a.metric, a.value, a.low, a.high
FROM raw.tenants AS d
JOIN litigation.metric_reach AS r ON r.tenant_id = d.tenant_id
JOIN litigation.anomalies AS a ON a.tenant_id = r.tenant_id AND a.day = r.newest_day AND a.detector = 'weekday_robust'
ORDER BY a.tenant_id, a.metric
