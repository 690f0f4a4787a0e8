-- How many tasks are flagged now. Grain: one row. Reads task_flags.
SELECT count(f.overdue_since) AS overdue, count(f.sla_missed_at) AS violating
FROM litigation.task_flags AS f
WHERE (CAST(:tenant_id AS text) IS NULL OR f.tenant_id = :tenant_id)
