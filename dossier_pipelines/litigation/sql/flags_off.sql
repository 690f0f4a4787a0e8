-- Tasks whose flags are not what judging every task anew says, as of the last check and with its grace; those with a
-- waiting mark left aside. Grain: one row. Reads all open tasks and all flags once.
SELECT count(*) AS violations, (array_agg(x.id))[1:10] AS examples
FROM (
    SELECT coalesce(s.tenant_id, f.tenant_id) AS tenant_id, coalesce(s.id, f.task_id) AS id
    FROM (
        SELECT j.tenant_id, j.id, j.overdue_since, j.sla_missed_at
        FROM (
            SELECT o.tenant_id, o.id,
                CASE WHEN o.due_date < c.checked_until - coalesce(c.grace, CAST(:grace AS interval)) THEN o.due_date END
                    AS overdue_since,
                CASE WHEN d.deadline <= c.checked_until THEN d.deadline END AS sla_missed_at
            FROM litigation.task_checks AS c
            JOIN raw.tenants AS r ON r.tenant_id = c.tenant_id
            CROSS JOIN LATERAL (
                SELECT litigation.service_hours(c.tenant_id, CAST(:hours AS jsonb)) AS hours OFFSET '0'
            ) AS h
            JOIN raw.tasks AS o ON o.tenant_id = c.tenant_id AND o.status IN ('pending', 'in_progress')
            CROSS JOIN LATERAL (
                SELECT o.created_at + CAST(h.hours ->> o.priority AS float8) * interval '1 hour' AS deadline
            ) AS d
        ) AS j
        WHERE j.overdue_since IS NOT NULL OR j.sla_missed_at IS NOT NULL
    ) AS s
    FULL JOIN litigation.task_flags AS f ON f.tenant_id = s.tenant_id AND f.task_id = s.id
    WHERE (s.overdue_since, s.sla_missed_at) IS DISTINCT FROM (f.overdue_since, f.sla_missed_at)
) AS x
WHERE NOT EXISTS (
    SELECT FROM litigation.task_marks AS k WHERE k.tenant_id = x.tenant_id AND coalesce(k.task_id = x.id, true)
)
