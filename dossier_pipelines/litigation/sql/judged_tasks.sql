-- What is so of each task that has to be judged, and what was flagged before. overdue_since: its due date, when that
-- passed by more than :grace and it is open. sla_missed_at: when the hours of its priority were over, when it is open.
-- late: the service level was missed, also by a task that was completed too late since the last check.
-- A working table of the check. Grain: one row per task in task_keys. Uses tasks_pkey, task_flags_pkey.
SELECT k.tenant_id, k.task_id, t.case_id, t.extra -> 'automation_depth' AS depth, t.priority, t.due_date, o.open,
    m.as_of, m.timezone,
    CAST(m.hours ->> t.priority AS float8) AS hours,
    CASE WHEN o.open AND t.due_date < m.as_of - CAST(:grace AS interval) THEN t.due_date END AS overdue_since,
    CASE WHEN o.open AND d.deadline <= m.as_of THEN d.deadline END AS sla_missed_at,
    coalesce((o.open AND d.deadline <= m.as_of)
        OR (t.status = 'completed' AND t.completed_at > d.deadline AND t.completed_at > m.checked_until), false) AS late,
    extract(epoch FROM CASE WHEN o.open THEN m.as_of ELSE t.completed_at END - t.created_at) / 3600 AS age_hours,
    f.task_id IS NOT NULL AS was_flagged, f.overdue_since AS was_overdue_since, f.sla_missed_at AS was_sla_missed_at
FROM task_keys AS k
JOIN task_moments AS m ON m.tenant_id = k.tenant_id
LEFT JOIN raw.tasks AS t ON t.tenant_id = k.tenant_id AND t.id = k.task_id
LEFT JOIN litigation.task_flags AS f ON f.tenant_id = k.tenant_id AND f.task_id = k.task_id
CROSS JOIN LATERAL (
    SELECT coalesce(t.status IN ('pending', 'in_progress'), false) AS open
) AS o
CROSS JOIN LATERAL (
    SELECT t.created_at + CAST(m.hours ->> t.priority AS float8) * interval '1 hour' AS deadline
) AS d
