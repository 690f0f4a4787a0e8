-- Write the metrics of every tenant and day of the scope, from running counts, or with :only_taken those that are there;
-- what is as it was is not touched. A rate with nothing under it is null.
-- Grain: one row per tenant, metric and day. Uses daily_metrics_pkey; ON CONFLICT alone would lock each row that stays, and so write it.
INSERT INTO litigation.daily_metrics AS x (tenant_id, metric, day, value)
SELECT r.tenant_id, m.metric, r.day, m.value
FROM (
    SELECT g.tenant_id, g.day, sum(e.cases) OVER upto AS cases, sum(e.tasks) OVER upto AS tasks,
        sum(e.completed) OVER upto AS completed, sum(e.missed) OVER upto AS missed, sum(e.overdue) OVER upto AS overdue,
        sum(e.held) OVER upto AS held, sum(e.attended) OVER upto AS attended, sum(e.documents) OVER upto AS documents
    FROM (
        SELECT s.tenant_id, CAST(d.day AS date) AS day
        FROM metric_scope AS s
        CROSS JOIN LATERAL generate_series(
            CAST(s.first_day AS timestamp), CAST(s.last_day AS timestamp), interval '1 day'
        ) AS d (day)
    ) AS g
    LEFT JOIN (
        SELECT e.tenant_id, e.day, sum(e.cases) AS cases, sum(e.tasks) AS tasks, sum(e.completed) AS completed,
            sum(e.missed) AS missed, sum(e.overdue) AS overdue, sum(e.held) AS held, sum(e.attended) AS attended,
            sum(e.documents) AS documents
        FROM metric_events AS e
        GROUP BY e.tenant_id, e.day
    ) AS e ON e.tenant_id = g.tenant_id AND e.day = g.day
    WINDOW upto AS (PARTITION BY g.tenant_id ORDER BY g.day)
) AS r
CROSS JOIN LATERAL (VALUES
    ('case_count', CAST(coalesce(r.cases, 0) AS float8)),
    ('task_completion_rate', CAST(r.completed AS float8) / nullif(r.tasks, 0)),
    ('sla_compliance_rate', CAST(r.tasks - r.missed AS float8) / nullif(r.tasks, 0)),
    ('hearing_attendance_rate', CAST(r.attended AS float8) / nullif(r.held, 0)),
    ('document_count', CAST(coalesce(r.documents, 0) AS float8)),
    ('overdue_tasks', CAST(coalesce(r.overdue, 0) AS float8))
) AS m (metric, value)
LEFT JOIN litigation.daily_metrics AS w ON w.tenant_id = r.tenant_id AND w.day = r.day AND w.metric = m.metric
    AND w.day BETWEEN CAST(:first_day AS date) AND CAST(:last_day AS date)
WHERE CASE WHEN w.tenant_id IS NULL THEN NOT CAST(:only_taken AS boolean) ELSE w.value IS DISTINCT FROM m.value END
ORDER BY r.tenant_id, r.day, m.metric
ON CONFLICT (tenant_id, day, metric) DO UPDATE SET value = excluded.value
