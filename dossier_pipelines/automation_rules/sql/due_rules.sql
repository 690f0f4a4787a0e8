-- The next rules, in the order of their keys, that have something due.
-- Grain: one row per rule. Uses automation_rules_pkey and, for each rule, the first entry of executions_due_idx.
-- Its order, which no other index gives, and ranges instead of equality make sure of it: when one rule has nearly all that
-- is open, the planner believes that any entry of executions_next_idx will do, and 10,000 other rules read all 100,000.
SELECT r.tenant_id, CAST(r.id AS text) AS id FROM automation_rules.answering_rules AS r
CROSS JOIN LATERAL (
    SELECT x.event_id FROM automation_rules.executions AS x
    WHERE (x.tenant_id, x.rule_id) >= (r.tenant_id, r.id) AND (x.tenant_id, x.rule_id) <= (r.tenant_id, r.id)
        AND x.status IN ('pending', 'failed') AND x.next_attempt_at <= statement_timestamp()
    ORDER BY x.tenant_id, x.rule_id, x.next_attempt_at
    LIMIT 1
) AS first
WHERE (r.tenant_id, r.id) > (CAST(:after_tenant AS text), CAST(:after_rule AS uuid))
ORDER BY r.tenant_id, r.id
LIMIT :rules
