-- Make dead executions due anew, with their attempts given back: of all rules that answer, of a tenant's, or of one.
-- Grain: one row per execution. Reads the executions once, when an operator asks; then automation_rules_pkey.
UPDATE automation_rules.executions AS x
SET status = 'pending', attempts = 0, next_attempt_at = clock_timestamp()
WHERE x.status = 'dead'
    AND (CAST(:tenant_id AS text) IS NULL OR x.tenant_id = :tenant_id)
    AND (CAST(:rule_id AS uuid) IS NULL OR x.rule_id = :rule_id)
    AND EXISTS (
        SELECT FROM raw.automation_rules AS r
        WHERE r.tenant_id = x.tenant_id AND r.id = x.rule_id AND r.enabled IS NOT FALSE
    )
