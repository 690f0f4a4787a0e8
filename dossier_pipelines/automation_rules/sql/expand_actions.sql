-- Write down each action that is still to be done, its texts filled with what the event says.
-- Grain: one row per execution and action. Reads the working table executing.
INSERT INTO acting
SELECT x.tenant_id, x.rule_id, x.event_id, a.n, a.identity, f.filled ->> 'action', f.filled,
    automation_rules.person(coalesce(f.filled ->> 'user_id', f.filled ->> 'assigned_to')), f.filled ->> 'role',
    x.rule_name, x.trigger_event, x.entity_type, x.entity_id, x.occurred_at, x.payload, x.depth,
    format('automation_rule:%s:%s:%s', x.rule_id, x.event_id, a.identity)
FROM executing AS x
CROSS JOIN LATERAL automation_rules.single_actions(x.actions) AS a
CROSS JOIN LATERAL (SELECT automation_rules.filled(a.action, x.payload) AS filled OFFSET '0') AS f
WHERE x.payload IS NOT NULL AND a.identity <> ALL (x.done)
