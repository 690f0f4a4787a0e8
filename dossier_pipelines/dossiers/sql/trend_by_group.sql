-- The course of each group, all tenants together. Grain: one row per grouping, value and month. Reads the spans at the
-- ends of months, by snapshot_spans_month_idx or whole.
SELECT t.grouping, t.value, date_trunc('month', CAST(t.day AS timestamp)) AS month, max(t.day) AS day,
    sum(t.dossiers) AS dossiers, sum(t.scored) AS scored,
    round(sum(t.average_score * t.scored) / nullif(sum(t.scored), 0), 1) AS average_score,
    sum(t.excellent) AS excellent, sum(t.good) AS good, sum(t.fair) AS fair, sum(t.poor) AS poor,
    sum(t.insufficient_data) AS insufficient_data
FROM dossiers.health_trend_by_group AS t
WHERE t.grouping IN ('all', 'region', 'bloc', 'type')
GROUP BY t.grouping, t.value, date_trunc('month', CAST(t.day AS timestamp))
ORDER BY t.grouping, t.value, month
