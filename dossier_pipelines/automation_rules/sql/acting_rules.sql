-- Whose actions of a kind are to be carried out, rule by rule. Grain: one row per rule.
SELECT DISTINCT a.tenant_id, CAST(a.rule_id AS text) AS rule_id FROM acting AS a
WHERE a.action = :action AND a.depth = :depth
ORDER BY 1, 2
