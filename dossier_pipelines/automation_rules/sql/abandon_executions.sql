-- Give up what a rule was about to do that is gone, or was disabled meanwhile, or whose tenant is gone.
-- Grain: one row per open execution of such a rule. Reads the open ones, of which there are as many as wait, by
-- executions_next_idx; then automation_rules_pkey.
UPDATE automation_rules.executions AS x
SET status = 'dead', last_error = CASE
    WHEN EXISTS (SELECT FROM automation_rules.former_tenants AS f WHERE f.tenant_id = x.tenant_id OFFSET '0')
        THEN 'the tenant was removed before the rule could answer'
    ELSE 'the rule was disabled or removed before it could answer' END
WHERE x.status IN ('pending', 'failed') AND NOT EXISTS (
    SELECT FROM automation_rules.answering_rules AS r
    WHERE r.tenant_id = x.tenant_id AND r.id = x.rule_id
)
