-- The next rules, in the order of their keys, that have something due.
-- Grain: one row per rule. Uses automation_rules_pkey and, for each rule, the first entry of executions_due_idx.
SELECT r.tenant_id, CAST(r.id AS text) AS id FROM automation_rules.answering_rules AS r
CROSS JOIN LATERAL (
    SELECT x.event_id FROM automation_rules.executions AS x
    WHERE x.tenant_id = r.tenant_id AND x.rule_id = r.id AND x.status IN ('pending', 'failed')
        AND x.next_attempt_at <= statement_timestamp()
    LIMIT 1
) AS first
WHERE (r.tenant_id, r.id) > (CAST(:after_tenant AS text), CAST(:after_rule AS uuid))
ORDER BY r.tenant_id, r.id
LIMIT :rules
