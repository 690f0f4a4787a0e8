-- Hand over the actions of a kind and depth: all of them, or those of one rule. Grain: one row per action.
INSERT INTO actions_handed
SELECT a.* FROM acting AS a
WHERE a.action = :action AND a.depth = :depth
    AND (CAST(:rule_id AS uuid) IS NULL OR a.tenant_id = CAST(:tenant_id AS text) AND a.rule_id = CAST(:rule_id AS uuid))
