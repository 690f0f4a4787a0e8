-- The totals of the litigation desk, and the rows that a run of its load set aside. Grain: one row. Reads each table once: asked by hand only.
SELECT (SELECT count(*) FROM raw.tenants) AS tenants, (SELECT count(*) FROM raw.cases) AS cases,
    (SELECT count(*) FROM raw.tasks) AS tasks, (SELECT count(*) FROM raw.hearings) AS hearings,
    (SELECT count(*) FROM raw.case_documents) AS documents,
    (SELECT count(*) FROM litigation.task_flags AS f WHERE f.overdue_since IS NOT NULL) AS overdue_tasks,
    (SELECT count(*) FROM litigation.task_flags AS f WHERE f.sla_missed_at IS NOT NULL) AS sla_violations,
    (SELECT count(*) FROM litigation.anomalies AS a WHERE a.detector = 'weekday_robust') AS anomalies,
    (
        SELECT CAST(coalesce(sum(l.rejected), 0) AS bigint) FROM ingestion.loads AS l WHERE l.run_id = CAST(:run_id AS text)
    ) AS rejected_rows
