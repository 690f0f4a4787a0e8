-- What is so of each task that has to be judged, and what was flagged before. overdue_since: its due date, when that
-- passed by more than :grace and it is open. sla_missed_at: when the hours of its priority were over, when it is open.
-- late: the service level was missed, also by a task that was completed too late since the last check, or that came since
-- then and was completed too late since the first one, no longer than :look_back ago: what is older is history.
-- ended: of what is late, how often it was ended, not counting that it is ended now; of anything else it says nothing.
-- A working table of the check. Grain: one row per task in task_keys. Uses tasks_pkey, task_flags_pkey, task_history_pkey.
SELECT k.tenant_id, k.task_id, t.case_id, t.extra -> 'automation_depth' AS depth, t.priority, t.due_date,
    m.as_of, m.timezone,
    CAST(h.hours ->> t.priority AS float8) AS hours, v.overdue_since, v.sla_missed_at, v.late, n.ended,
    extract(epoch FROM CASE WHEN o.open THEN m.as_of ELSE t.completed_at END - t.created_at) / 3600 AS age_hours,
    f.overdue_since AS was_overdue_since, f.sla_missed_at AS was_sla_missed_at
FROM task_keys AS k
JOIN task_moments AS m ON m.tenant_id = k.tenant_id
JOIN tenant_hours AS h ON h.tenant_id = k.tenant_id
LEFT JOIN raw.tasks AS t ON t.tenant_id = k.tenant_id AND t.id = k.task_id
LEFT JOIN litigation.task_flags AS f ON f.tenant_id = k.tenant_id AND f.task_id = k.task_id
CROSS JOIN LATERAL (
    SELECT coalesce(t.status IN ('pending', 'in_progress'), false) AS open
) AS o
CROSS JOIN LATERAL (
    SELECT t.created_at + CAST(h.hours ->> t.priority AS float8) * interval '1 hour' AS deadline,
        CASE WHEN k.came THEN least(m.checked_until, greatest(m.checked_since, m.as_of - CAST(:look_back AS interval)))
            ELSE m.checked_until END AS known_until
) AS d
CROSS JOIN LATERAL (
    SELECT CASE WHEN o.open AND t.due_date < m.as_of - CAST(:grace AS interval) THEN t.due_date END AS overdue_since,
        CASE WHEN o.open AND d.deadline <= m.as_of THEN d.deadline END AS sla_missed_at,
        coalesce((o.open AND d.deadline <= m.as_of)
            OR (t.status = 'completed' AND t.completed_at > d.deadline AND m.checked_until IS NOT NULL
                AND t.completed_at > d.known_until), false) AS late
) AS v
CROSS JOIN LATERAL (
    SELECT count(*) - CASE WHEN o.open THEN 0 ELSE 1 END AS ended FROM litigation.task_history AS y
    WHERE (v.late OR v.overdue_since IS NOT NULL)
        AND y.tenant_id = k.tenant_id AND y.task_id = k.task_id AND y.status IN ('completed', 'cancelled')
) AS n
