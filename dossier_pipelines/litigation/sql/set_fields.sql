-- Carry out set_field on the task of the event: its priority, its status or who does it; of several for one task the last
-- counts. The source takes the field back when it changes the task.
-- Grain: one row per action, and an answer for each. Uses tasks_pkey, users_pkey by probes.
WITH judged AS MATERIALIZED (
    SELECT h.tenant_id, h.rule_id, h.event_id, h.n, h.entity_id, h.occurred_at, h.arguments ->> 'field' AS field,
        h.arguments ->> 'value' AS value,
        CASE WHEN h.entity_type <> 'task' OR t.id IS NULL THEN 'the event is not about a task of the tenant'
            WHEN h.arguments ->> 'field' NOT IN ('priority', 'status', 'assigned_to')
                THEN 'only priority, status and assigned_to of a task can be set'
            WHEN h.arguments ->> 'field' = 'priority' AND h.arguments ->> 'value' NOT IN ('low', 'medium', 'high', 'critical')
                THEN 'the priority is none of low, medium, high, critical'
            WHEN h.arguments ->> 'field' = 'status'
                AND h.arguments ->> 'value' NOT IN ('pending', 'in_progress', 'completed', 'cancelled')
                THEN 'the status is none of pending, in_progress, completed, cancelled'
            WHEN h.arguments ->> 'field' = 'assigned_to' AND u.id IS NULL
                THEN 'the person of assigned_to is not among the users' END AS problem
    FROM actions_handed AS h
    LEFT JOIN LATERAL (
        SELECT x.id FROM raw.tasks AS x WHERE x.tenant_id = h.tenant_id AND x.id = h.entity_id LIMIT 1
    ) AS t ON true
    LEFT JOIN LATERAL (
        SELECT p.id FROM raw.users AS p
        WHERE p.tenant_id = h.tenant_id AND CASE WHEN pg_input_is_valid(h.arguments ->> 'value', 'uuid')
            THEN p.id = CAST(h.arguments ->> 'value' AS uuid) ELSE false END
        LIMIT 1
    ) AS u ON true
),
told AS (
    SELECT j.tenant_id, j.entity_id,
        (array_agg(j.value ORDER BY j.occurred_at DESC, j.n DESC) FILTER (WHERE j.field = 'priority'))[1] AS priority,
        (array_agg(j.value ORDER BY j.occurred_at DESC, j.n DESC) FILTER (WHERE j.field = 'status'))[1] AS status,
        (array_agg(j.value ORDER BY j.occurred_at DESC, j.n DESC) FILTER (WHERE j.field = 'assigned_to'))[1] AS assigned_to
    FROM judged AS j
    WHERE j.problem IS NULL
    GROUP BY j.tenant_id, j.entity_id
),
made AS (
    UPDATE raw.tasks AS t
    SET priority = coalesce(s.priority, t.priority), status = coalesce(s.status, t.status),
        assigned_to = coalesce(CAST(s.assigned_to AS uuid), t.assigned_to),
        completed_at = CASE WHEN s.status = 'completed' THEN coalesce(t.completed_at, m.at)
            WHEN s.status IS NULL THEN t.completed_at END
    FROM told AS s
    CROSS JOIN LATERAL (
        SELECT coalesce(o.clock_at, CAST(:now AS timestamptz)) AS at FROM platform.tenants AS o
        WHERE o.tenant_id = s.tenant_id
    ) AS m
    WHERE t.tenant_id = s.tenant_id AND t.id = s.entity_id
)
INSERT INTO actions_handled (tenant_id, rule_id, event_id, n, error)
SELECT j.tenant_id, j.rule_id, j.event_id, j.n, j.problem FROM judged AS j
