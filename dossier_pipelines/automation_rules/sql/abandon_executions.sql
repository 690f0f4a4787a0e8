-- Give up what a rule was about to do that is gone, or was disabled meanwhile.
-- Grain: one row per open execution of such a rule. Reads the open ones, of which there are as many as wait, by
-- executions_next_idx; then automation_rules_pkey.
UPDATE automation_rules.executions AS x
SET status = 'dead', last_error = 'the rule was disabled or removed before it could answer'
WHERE x.status IN ('pending', 'failed') AND NOT EXISTS (
    SELECT FROM raw.automation_rules AS r
    WHERE r.tenant_id = x.tenant_id AND r.id = x.rule_id AND r.enabled IS NOT FALSE
)
