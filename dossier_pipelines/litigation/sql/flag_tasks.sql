-- Flag what is overdue or misses its service level, unflag what no longer is, and record an event for each that is new,
-- in the audit log too. The same lateness is an event once: a task and its due date, a task and its service level; again
-- when the task was ended and taken up again in between.
-- Grain: one row of counts. Uses task_flags_pkey and the unique key of events.
WITH unflagged AS (
    DELETE FROM litigation.task_flags AS f
    USING judged_tasks AS j
    WHERE f.tenant_id = j.tenant_id AND f.task_id = j.task_id AND j.overdue_since IS NULL AND j.sla_missed_at IS NULL
    RETURNING f.task_id
),
flagged AS (
    INSERT INTO litigation.task_flags AS f (tenant_id, task_id, overdue_since, sla_missed_at, flagged_at)
    SELECT j.tenant_id, j.task_id, j.overdue_since, j.sla_missed_at, j.as_of FROM judged_tasks AS j
    WHERE (j.overdue_since IS NOT NULL OR j.sla_missed_at IS NOT NULL)
        AND (j.overdue_since, j.sla_missed_at) IS DISTINCT FROM (j.was_overdue_since, j.was_sla_missed_at)
    ON CONFLICT (tenant_id, task_id) DO UPDATE
        SET overdue_since = excluded.overdue_since, sla_missed_at = excluded.sla_missed_at, flagged_at = excluded.flagged_at
),
happened AS (
    SELECT j.tenant_id, 'task_overdue' AS type, j.task_id, j.ended, j.as_of,
        concat('task_overdue:', j.task_id, ':', to_char(j.due_date AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')) AS key,
        jsonb_build_object('task_id', j.task_id, 'case_id', j.case_id, 'priority', j.priority, 'due_date', j.due_date,
            'days_overdue', CAST(j.as_of AT TIME ZONE j.timezone AS date) - CAST(j.due_date AT TIME ZONE j.timezone AS date)
        ) || jsonb_strip_nulls(jsonb_build_object('automation_depth', j.depth)) AS payload
    FROM judged_tasks AS j
    WHERE j.overdue_since IS NOT NULL AND j.was_overdue_since IS DISTINCT FROM j.overdue_since
    UNION ALL
    SELECT j.tenant_id, 'sla_violation', j.task_id, j.ended, j.as_of, concat('sla_violation:', j.task_id),
        jsonb_build_object('task_id', j.task_id, 'case_id', j.case_id, 'priority', j.priority, 'sla_threshold', j.hours,
            'actual_time', round(CAST(j.age_hours AS numeric), 2))
            || jsonb_strip_nulls(jsonb_build_object('automation_depth', j.depth))
    FROM judged_tasks AS j
    WHERE j.late AND j.was_sla_missed_at IS NULL
),
recorded AS (
    INSERT INTO platform.events AS e (tenant_id, type, entity_type, entity_id, payload, occurred_at, run_id, dedupe_key)
    SELECT h.tenant_id, h.type, 'task', h.task_id, h.payload, h.as_of, CAST(:run_id AS text),
        concat(h.key, ':' || nullif(h.ended, 0))
    FROM happened AS h
    ON CONFLICT DO NOTHING
    RETURNING e.tenant_id, e.type, e.payload
),
audited AS (
    INSERT INTO platform.audit_log (tenant_id, action_type, entity_type, run_id, details)
    SELECT r.tenant_id, r.type, 'task', CAST(:run_id AS text), r.payload FROM recorded AS r
)
SELECT (SELECT count(*) FROM unflagged) AS unflagged,
    (SELECT count(*) FROM recorded AS r WHERE r.type = 'task_overdue') AS overdue,
    (SELECT count(*) FROM recorded AS r WHERE r.type = 'sla_violation') AS violations
