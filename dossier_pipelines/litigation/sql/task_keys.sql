-- The tasks that have to be judged: those that are marked, and those that time has brought since the last check, a due date
-- that passed or an age that reached the hours of its priority. came: that it was not known to the last check. All open ones and all flagged ones of a tenant whose
-- service levels changed, whose clock was put back, or who was judged with another grace: what lies between both would
-- never be looked at. A working table of the check.
-- Grain: one row per task. Uses tasks_open_due_idx and tasks_open_created_idx by ranges, tasks_pkey. The fence makes sure
-- of a probe for each priority: the planner expects a hundred priorities and reads all that is open instead.
SELECT x.tenant_id, x.task_id, bool_or(x.came) AS came
FROM (
    SELECT k.tenant_id, k.task_id, k.came FROM taken_marks AS k WHERE k.task_id IS NOT NULL
    UNION ALL
    SELECT m.tenant_id, t.id, false
    FROM task_moments AS m
    CROSS JOIN LATERAL (
        SELECT o.id FROM raw.tasks AS o
        WHERE o.tenant_id = m.tenant_id AND o.status IN ('pending', 'in_progress')
            AND o.due_date >= coalesce(m.checked_until - CAST(:grace AS interval), '-infinity')
            AND o.due_date < m.as_of - CAST(:grace AS interval)
    ) AS t
    UNION ALL
    SELECT m.tenant_id, t.id, false
    FROM task_moments AS m
    JOIN tenant_hours AS h ON h.tenant_id = m.tenant_id
    CROSS JOIN LATERAL jsonb_each_text(h.hours) AS p (priority, hours)
    CROSS JOIN LATERAL (
        SELECT o.id FROM raw.tasks AS o
        WHERE o.tenant_id = m.tenant_id AND o.priority = p.priority AND o.status IN ('pending', 'in_progress')
            AND o.created_at > coalesce(m.checked_until - CAST(p.hours AS float8) * interval '1 hour', '-infinity')
            AND o.created_at <= m.as_of - CAST(p.hours AS float8) * interval '1 hour'
        OFFSET '0'
    ) AS t
    UNION ALL
    SELECT m.tenant_id, t.id, false
    FROM task_moments AS m
    CROSS JOIN LATERAL (
        SELECT o.id FROM raw.tasks AS o WHERE o.tenant_id = m.tenant_id AND o.status IN ('pending', 'in_progress')
        UNION ALL
        SELECT f.task_id FROM litigation.task_flags AS f WHERE f.tenant_id = m.tenant_id
    ) AS t
    WHERE m.as_of < m.checked_until
        OR m.checked_until IS NOT NULL AND m.grace IS DISTINCT FROM CAST(:grace AS interval)
        OR EXISTS (SELECT FROM taken_marks AS k WHERE k.tenant_id = m.tenant_id AND k.task_id IS NULL)
) AS x
GROUP BY x.tenant_id, x.task_id
