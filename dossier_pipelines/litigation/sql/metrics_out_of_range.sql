-- Values that cannot be. Grain: one row. Reads all metrics.
SELECT count(*) AS violations, (array_agg(concat_ws(' ', m.tenant_id, m.metric, m.day)))[1:10] AS examples
FROM litigation.daily_metrics AS m
WHERE m.value < 0 OR (m.metric LIKE '%_rate' AND m.value > 1)
