-- Make dead executions due anew, with their attempts given back, of a tenant, of a rule, or all: those whose rule still
-- answers the event by its condition as it is now. The others stay dead, and last_error says why.
-- Grain: one row per execution; returns one row per reason to stay, and one without a reason for what is due. Reads the
-- executions once, when an operator asks; then automation_rules_pkey and events_pkey by probes: the sub-select of SET is
-- run for each row, whatever the planner believes of their number.
WITH judged AS (
    UPDATE automation_rules.executions AS x
    SET (status, attempts, next_attempt_at, last_error) = (
        SELECT CASE WHEN w.reason IS NULL THEN 'pending' ELSE 'dead' END,
            CASE WHEN w.reason IS NULL THEN 0 ELSE x.attempts END,
            CASE WHEN w.reason IS NULL THEN clock_timestamp() ELSE x.next_attempt_at END, coalesce(w.reason, x.last_error)
        FROM (SELECT) AS one
        LEFT JOIN LATERAL (
            SELECT o.trigger_event, o.condition FROM automation_rules.answering_rules AS o
            WHERE o.tenant_id = x.tenant_id AND o.id = x.rule_id LIMIT 1
        ) AS r ON true
        LEFT JOIN LATERAL (
            SELECT o.type, o.payload FROM platform.events AS o
            WHERE o.tenant_id = x.tenant_id AND o.id = x.event_id LIMIT 1
        ) AS e ON true
        CROSS JOIN LATERAL automation_rules.judge(r.condition, e.payload) AS a
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN EXISTS (SELECT FROM automation_rules.former_tenants AS f WHERE f.tenant_id = x.tenant_id)
                    THEN 'the tenant is removed'
                WHEN r.trigger_event IS NULL THEN 'the rule is disabled or removed'
                WHEN e.type IS NULL THEN 'the event is gone'
                WHEN r.trigger_event <> e.type THEN 'the rule answers another event now'
                WHEN a.problem IS NOT NULL THEN a.problem
                WHEN NOT a.holds THEN 'the condition does not hold' END AS reason
        ) AS w
    )
    WHERE x.status = 'dead'
        AND (CAST(:tenant_id AS text) IS NULL OR x.tenant_id = CAST(:tenant_id AS text))
        AND (CAST(:rule_id AS uuid) IS NULL OR x.rule_id = CAST(:rule_id AS uuid))
    RETURNING x.status, x.last_error
)
-- After the colon is what the server says of the problem: it may quote the event.
SELECT CASE WHEN j.status = 'dead' THEN split_part(j.last_error, ':', 1) END AS reason, count(*) AS executions
FROM judged AS j
GROUP BY 1
ORDER BY 1 NULLS FIRST
