-- What each record does to the numbers under the metrics of its tenant, and on which day: one pass over the records, no
-- day by day. happened says what it was, for whoever asks why. What was before the first day counts on the first, all of
-- a tenant in one row without an id; on which day it was does not matter, and is not looked up.
-- A working table. Grain: one row per record and day on which it changes a number.
-- Reads cases, tasks with their entries of task_history_pkey, hearings and documents of the tenants once.
WITH spell AS (
    SELECT s.tenant_id, s.timezone, s.before, s.first_day, s.last_day, s.grace, t.id, h.status, h.valid_from, t.due_date,
        t.created_at + CAST(s.hours ->> t.priority AS float8) * interval '1 hour' AS deadline,
        f.day AS from_day, least(min(f.day) OVER later, s.last_day + 1) AS until_day
    FROM metric_scope AS s
    JOIN raw.tasks AS t ON t.tenant_id = s.tenant_id
    JOIN litigation.task_history AS h ON h.tenant_id = t.tenant_id AND h.task_id = t.id
    CROSS JOIN LATERAL (SELECT greatest(h.valid_from, t.created_at) AS at OFFSET '0') AS v
    CROSS JOIN LATERAL (
        SELECT CASE WHEN v.at <= s.before THEN s.first_day - 1 ELSE platform.first_day(v.at, s.timezone) END AS day OFFSET '0'
    ) AS f
    WINDOW later AS (
        PARTITION BY t.tenant_id, t.id ORDER BY h.ordinal DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
task AS (
    SELECT p.tenant_id, p.id, greatest(v.day, p.first_day) AS day, v.tasks, v.completed, v.missed, v.overdue, v.happened,
        v.day >= p.first_day AS told
    FROM spell AS p
    CROSS JOIN LATERAL (
        SELECT p.status <> 'cancelled' AS counts, p.status = 'completed' AS done, p.status IN ('pending', 'in_progress') AS open,
            -- As the check of due dates has it.
            p.due_date + p.grace + interval '1 microsecond' AS overdue_at
        OFFSET '0'
    ) AS o
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN o.open THEN greatest(p.from_day,
                    CASE WHEN p.deadline > p.before THEN platform.first_day(p.deadline, p.timezone) END)
                WHEN o.done AND p.valid_from > p.deadline THEN p.from_day END AS missed_day,
            CASE WHEN o.open AND p.due_date IS NOT NULL THEN greatest(p.from_day,
                CASE WHEN o.overdue_at > p.before THEN platform.first_day(o.overdue_at, p.timezone) END) END AS overdue_day
        OFFSET '0'
    ) AS s
    CROSS JOIN LATERAL (
        SELECT p.from_day, CAST(o.counts AS integer), CAST(o.done AS integer), 0, 0,
            CASE WHEN o.done THEN 'tasks_completed' WHEN o.counts THEN 'tasks_set' ELSE 'tasks_cancelled' END
        UNION ALL
        SELECT p.until_day, - CAST(o.counts AS integer), - CAST(o.done AS integer), 0, 0, NULL WHERE o.counts
        UNION ALL
        SELECT x.day, 0, 0, x.step, 0, CASE WHEN x.step > 0 THEN 'service_levels_missed' END
        FROM (VALUES (s.missed_day, 1), (p.until_day, -1)) AS x (day, step) WHERE s.missed_day < p.until_day
        UNION ALL
        SELECT x.day, 0, 0, 0, x.step, CASE WHEN x.step > 0 THEN 'tasks_overdue' ELSE 'tasks_no_longer_overdue' END
        FROM (VALUES (s.overdue_day, 1), (p.until_day, -1)) AS x (day, step) WHERE s.overdue_day < p.until_day
    ) AS v (day, tasks, completed, missed, overdue, happened)
    WHERE p.from_day < p.until_day AND v.day <= p.last_day
),
event AS (
    SELECT t.tenant_id, t.day, t.id, t.told, t.happened, 0 AS cases, t.tasks, t.completed, t.missed, t.overdue, 0 AS held,
        0 AS attended, 0 AS documents
    FROM task AS t
    UNION ALL
    SELECT s.tenant_id, greatest(f.day, s.first_day), c.id, f.day >= s.first_day, v.happened, v.step, 0, 0, 0, 0, 0, 0, 0
    FROM metric_scope AS s
    JOIN raw.cases AS c ON c.tenant_id = s.tenant_id
    CROSS JOIN LATERAL (
        SELECT c.created_at, 1, 'cases_opened'
        UNION ALL
        SELECT greatest(c.created_at, c.closed_at), -1, 'cases_closed' WHERE c.closed_at IS NOT NULL
    ) AS v (at, step, happened)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN v.at <= s.before THEN s.first_day - 1 ELSE platform.first_day(v.at, s.timezone) END AS day OFFSET '0'
    ) AS f
    WHERE f.day <= s.last_day
    UNION ALL
    SELECT s.tenant_id, greatest(f.day, s.first_day), h.id, f.day >= s.first_day, 'hearings_held',
        0, 0, 0, 0, 0, 1, CAST(h.attended AS integer), 0
    FROM metric_scope AS s
    JOIN raw.hearings AS h ON h.tenant_id = s.tenant_id AND h.status = 'completed' AND h.attended IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT CASE WHEN h.hearing_date <= s.before THEN s.first_day - 1
            ELSE platform.first_day(h.hearing_date, s.timezone) END AS day OFFSET '0'
    ) AS f
    WHERE f.day <= s.last_day
    UNION ALL
    SELECT s.tenant_id, greatest(f.day, s.first_day), d.id, f.day >= s.first_day, 'documents_uploaded', 0, 0, 0, 0, 0, 0, 0, 1
    FROM metric_scope AS s
    JOIN raw.case_documents AS d ON d.tenant_id = s.tenant_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN d.uploaded_at <= s.before THEN s.first_day - 1
            ELSE platform.first_day(d.uploaded_at, s.timezone) END AS day OFFSET '0'
    ) AS f
    WHERE f.day <= s.last_day
)
SELECT e.tenant_id, e.day, CASE WHEN e.told THEN e.id END AS id, CASE WHEN e.told THEN e.happened END AS happened,
    CAST(sum(e.cases) AS integer) AS cases, CAST(sum(e.tasks) AS integer) AS tasks,
    CAST(sum(e.completed) AS integer) AS completed, CAST(sum(e.missed) AS integer) AS missed,
    CAST(sum(e.overdue) AS integer) AS overdue, CAST(sum(e.held) AS integer) AS held,
    CAST(sum(e.attended) AS integer) AS attended, CAST(sum(e.documents) AS integer) AS documents
FROM event AS e
GROUP BY e.tenant_id, e.day, CASE WHEN e.told THEN e.id END, CASE WHEN e.told THEN e.happened END
