-- Carry out notify: record a notification for the user, or for each user of the tenant with the role, once per person,
-- rule, event and action. Grain: one row per action and person; an answer per action. Uses users_pkey and users_role_idx.
WITH person AS (
    SELECT h.tenant_id, h.rule_id, h.event_id, h.n, h.user_id AS id FROM actions_handed AS h
    WHERE EXISTS (SELECT FROM raw.users AS u WHERE u.tenant_id = h.tenant_id AND u.id = h.user_id)
    UNION ALL
    SELECT h.tenant_id, h.rule_id, h.event_id, h.n, u.id FROM actions_handed AS h
    JOIN raw.users AS u ON u.tenant_id = h.tenant_id AND u.role = h.role
),
told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, kind, urgency, title, message, metadata, event_id, dedupe_key, run_id, created_at
    )
    SELECT h.tenant_id, p.id, 'automation_rule', coalesce(CAST(CAST(h.arguments -> 'urgency' AS numeric) AS integer), 3),
        h.arguments ->> 'title', h.arguments ->> 'message',
        jsonb_build_object('rule_id', h.rule_id, 'rule', h.rule_name, 'event', h.trigger_event,
            'entity_type', h.entity_type, 'entity_id', h.entity_id),
        h.event_id, format('%s:%s', h.key, p.id), CAST(:run_id AS text), CAST(:now AS timestamptz)
    FROM person AS p
    CROSS JOIN LATERAL (
        SELECT o.* FROM actions_handed AS o
        WHERE o.tenant_id = p.tenant_id AND o.rule_id = p.rule_id AND o.event_id = p.event_id AND o.n = p.n LIMIT 1
    ) AS h
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
)
INSERT INTO actions_handled (tenant_id, rule_id, event_id, n, error)
SELECT h.tenant_id, h.rule_id, h.event_id, h.n,
    CASE WHEN h.role IS NOT NULL
        AND NOT EXISTS (SELECT FROM raw.users AS u WHERE u.tenant_id = h.tenant_id AND u.role = h.role)
        THEN format('no user has the role %s', quote_literal(left(h.role, 80)))
    WHEN h.role IS NULL
        AND NOT EXISTS (SELECT FROM raw.users AS u WHERE u.tenant_id = h.tenant_id AND u.id = h.user_id)
        THEN format('the user %s is not known', h.user_id) END
FROM actions_handed AS h
