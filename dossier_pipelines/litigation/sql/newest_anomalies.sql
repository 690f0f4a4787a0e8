-- The newest unusual days of all tenants, by the robust detector. Grain: one row per tenant, metric and day, at most :most.
-- Reads the anomalies of that detector, which are few.
SELECT a.day, a.tenant_id, a.metric, a.value, a.expected, a.low, a.high
FROM litigation.anomalies AS a
WHERE a.detector = 'weekday_robust'
ORDER BY a.day DESC, a.tenant_id, a.metric
LIMIT :most
