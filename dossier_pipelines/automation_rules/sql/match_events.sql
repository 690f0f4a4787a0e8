-- Take the marks of events and decide which rules answer them: those of the tenant and the type that were active when the
-- event was recorded, and whose condition holds. Whoever takes the same marks waits and finds them gone; an event and a
-- rule that were matched before stay as they are. A condition that cannot be judged is logged as a failure of its rule.
-- Grain: one row per event and rule; returns one row of counts. Reads the marks, which are few: matching takes them away;
-- then events_pkey and automation_rules_event_idx, by probes, which LIMIT and OFFSET make sure of.
WITH taken AS MATERIALIZED (
    DELETE FROM automation_rules.unmatched RETURNING tenant_id, event_id, depth
),
matched AS (
    INSERT INTO automation_rules.executions (tenant_id, rule_id, event_id, depth, status, last_error)
    SELECT t.tenant_id, r.id, t.event_id, t.depth, CASE WHEN a.holds THEN 'pending' ELSE 'dead' END, a.problem
    FROM taken AS t
    CROSS JOIN LATERAL (
        SELECT e.type, e.payload, e.recorded_at FROM platform.events AS e
        WHERE e.tenant_id = t.tenant_id AND e.id = t.event_id LIMIT 1
    ) AS e
    CROSS JOIN LATERAL (
        SELECT o.id, o.condition FROM automation_rules.answering_rules AS o
        WHERE o.tenant_id = t.tenant_id AND o.trigger_event = e.type AND o.active_since <= e.recorded_at
        OFFSET '0'
    ) AS r
    CROSS JOIN LATERAL automation_rules.judge(r.condition, e.payload) AS a
    WHERE t.depth <= CAST(:most_depth AS integer) AND (a.holds OR a.problem IS NOT NULL)
    ON CONFLICT (tenant_id, rule_id, event_id) DO NOTHING
    RETURNING tenant_id, rule_id, event_id, status, last_error
),
logged AS (
    INSERT INTO automation_rules.automation_logs (
        tenant_id, rule_id, rule_name, trigger_event, event_id, status, actions_executed, error_message, executed_at, run_id
    )
    SELECT m.tenant_id, m.rule_id, r.name, r.trigger_event, m.event_id, 'failed', '[]', m.last_error,
        CAST(:now AS timestamptz), CAST(:run_id AS text)
    FROM matched AS m
    CROSS JOIN LATERAL (
        SELECT o.name, o.trigger_event FROM raw.automation_rules AS o
        WHERE o.tenant_id = m.tenant_id AND o.id = m.rule_id LIMIT 1
    ) AS r
    WHERE m.status = 'dead'
)
SELECT (SELECT count(*) FROM taken) AS events,
    (SELECT count(*) FROM taken AS t WHERE t.depth > CAST(:most_depth AS integer)) AS too_deep,
    (SELECT count(*) FROM matched AS m WHERE m.status = 'pending') AS matched,
    (SELECT count(*) FROM matched AS m WHERE m.status = 'dead') AS unjudged
