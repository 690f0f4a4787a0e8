-- Write down which of the actions that were handed over failed; one without an answer did, too.
-- Grain: one row per failed action. Reads the working tables, by their keys.
UPDATE acting AS a SET error = coalesce(f.error, 'the desk that carries it out gave no answer')
FROM (
    SELECT h.tenant_id, h.rule_id, h.event_id, h.n, d.error
    FROM actions_handed AS h
    LEFT JOIN actions_handled AS d
        ON d.tenant_id = h.tenant_id AND d.rule_id = h.rule_id AND d.event_id = h.event_id AND d.n = h.n
    WHERE d.n IS NULL OR d.error IS NOT NULL
) AS f
WHERE a.tenant_id = f.tenant_id AND a.rule_id = f.rule_id AND a.event_id = f.event_id AND a.n = f.n
