-- Tasks whose flag is not what judging every task anew as of the last check says; those with a waiting mark left aside.
-- Grain: one row. Reads all open tasks and all flags once.
SELECT count(*) AS violations, (array_agg(x.id))[1:10] AS examples
FROM (
    SELECT coalesce(s.tenant_id, f.tenant_id) AS tenant_id, coalesce(s.id, f.task_id) AS id
    FROM (
        SELECT o.tenant_id, o.id
        FROM litigation.task_checks AS c
        JOIN raw.tasks AS o ON o.tenant_id = c.tenant_id AND o.status IN ('pending', 'in_progress')
            AND o.due_date < c.checked_until - CAST(:grace AS interval)
    ) AS s
    FULL JOIN (
        SELECT g.tenant_id, g.task_id FROM litigation.task_flags AS g WHERE g.overdue_since IS NOT NULL
    ) AS f ON f.tenant_id = s.tenant_id AND f.task_id = s.id
    WHERE s.id IS NULL OR f.task_id IS NULL
) AS x
WHERE NOT EXISTS (
    SELECT FROM litigation.task_marks AS k WHERE k.tenant_id = x.tenant_id AND coalesce(k.task_id = x.id, true)
)
