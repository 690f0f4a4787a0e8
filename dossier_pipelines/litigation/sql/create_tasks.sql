-- Carry out create_task: a task in the case of the event, set now, once per action. How deep in a chain of rules it is, its
-- own events tell. Grain: one row per action, and an answer for each. Uses cases_pkey, users_pkey, tasks_pkey by probes.
WITH judged AS MATERIALIZED (
    SELECT h.tenant_id, h.rule_id, h.event_id, h.n, h.key, h.depth, h.arguments, c.id AS case_id, h.user_id,
        CASE WHEN c.id IS NULL THEN 'the event names no case of the tenant'
            WHEN h.user_id IS NOT NULL AND u.id IS NULL THEN 'the person of assigned_to is not among the users' END AS problem
    FROM actions_handed AS h
    LEFT JOIN LATERAL (
        SELECT x.id FROM raw.cases AS x
        WHERE x.tenant_id = h.tenant_id AND x.id = CASE
            WHEN h.entity_type = 'case' THEN h.entity_id
            WHEN pg_input_is_valid(h.payload ->> 'case_id', 'uuid') THEN CAST(h.payload ->> 'case_id' AS uuid) END
        LIMIT 1
    ) AS c ON true
    LEFT JOIN LATERAL (
        SELECT p.id FROM raw.users AS p WHERE p.tenant_id = h.tenant_id AND p.id = h.user_id LIMIT 1
    ) AS u ON true
),
made AS (
    INSERT INTO raw.tasks (tenant_id, id, case_id, title, status, priority, assigned_to, created_at, due_date, extra)
    SELECT j.tenant_id, CAST(md5(j.key) AS uuid), j.case_id, j.arguments ->> 'title', 'pending', j.arguments ->> 'priority',
        j.user_id, m.at, m.at + CAST(j.arguments ->> 'due_in_hours' AS float8) * interval '1 hour',
        jsonb_build_object('automation_rule', j.rule_id, 'automation_depth', j.depth + 1)
    FROM judged AS j
    CROSS JOIN LATERAL (
        SELECT coalesce(t.clock_at, CAST(:now AS timestamptz)) AS at FROM platform.tenants AS t
        WHERE t.tenant_id = j.tenant_id
    ) AS m
    WHERE j.problem IS NULL
    ON CONFLICT (tenant_id, id) DO NOTHING
)
INSERT INTO actions_handled (tenant_id, rule_id, event_id, n, error)
SELECT j.tenant_id, j.rule_id, j.event_id, j.n, j.problem FROM judged AS j
