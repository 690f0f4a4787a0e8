-- Write down that actions of a kind and depth failed: all of them, or those of one rule. Grain: one row per action.
UPDATE acting AS a SET error = CAST(:error AS text)
WHERE a.action = :action AND a.depth = :depth
    AND (CAST(:rule_id AS uuid) IS NULL OR a.tenant_id = CAST(:tenant_id AS text) AND a.rule_id = CAST(:rule_id AS uuid))
