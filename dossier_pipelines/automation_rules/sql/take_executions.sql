-- Take what is due of the named rules, of each no more than its share, oldest first; what another worker has taken is
-- passed over. Grain: one row per execution. Uses automation_rules_pkey, executions_due_idx from its first entry on
-- (due_rules.sql says how), and events_pkey by probes, which LIMIT makes sure of.
INSERT INTO executing
SELECT r.tenant_id, r.id, x.event_id, r.name, r.trigger_event, r.actions, x.depth, x.attempts, x.done,
    e.entity_type, e.entity_id, e.occurred_at, e.payload
FROM unnest(CAST(:tenants AS text[]), CAST(:rules AS uuid[])) AS d (tenant_id, rule_id)
JOIN automation_rules.answering_rules AS r ON r.tenant_id = d.tenant_id AND r.id = d.rule_id
CROSS JOIN LATERAL (
    SELECT o.event_id, o.depth, o.attempts, o.done FROM automation_rules.executions AS o
    WHERE (o.tenant_id, o.rule_id) >= (d.tenant_id, d.rule_id) AND (o.tenant_id, o.rule_id) <= (d.tenant_id, d.rule_id)
        AND o.status IN ('pending', 'failed') AND o.next_attempt_at <= statement_timestamp()
    ORDER BY o.tenant_id, o.rule_id, o.next_attempt_at
    LIMIT :share
    FOR UPDATE SKIP LOCKED
) AS x
LEFT JOIN LATERAL (
    SELECT o.entity_type, o.entity_id, o.occurred_at, o.payload FROM platform.events AS o
    WHERE o.tenant_id = d.tenant_id AND o.id = x.event_id LIMIT 1
) AS e ON true
