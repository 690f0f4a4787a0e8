-- Carry out webhook: record a notification that takes the webhook only; the outbox posts it and tries again, and the
-- trigger log_dead_webhook logs a failure of the rule when it is given up. It has no reader: each stands for a person of its own, so that none waits in the digest of a full day.
-- Grain: one row per action, and an answer for each. Uses the unique key of notifications.
WITH told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, kind, urgency, title, message, metadata, channels, event_id, dedupe_key, run_id, created_at
    )
    SELECT h.tenant_id, CAST(md5(h.key) AS uuid), 'automation_rule', 3,
        coalesce(h.arguments ->> 'title', format('%s: %s', h.rule_name, h.trigger_event)),
        coalesce(h.arguments ->> 'message', ''),
        jsonb_build_object('rule_id', h.rule_id, 'rule', h.rule_name, 'event', h.trigger_event,
            'entity_type', h.entity_type, 'entity_id', h.entity_id, 'occurred_at', h.occurred_at, 'payload', h.payload,
            'action', h.n),
        ARRAY['webhook'], h.event_id, h.key, CAST(:run_id AS text), CAST(:now AS timestamptz)
    FROM actions_handed AS h
    WHERE 'webhook' = ANY (CAST(:channels AS text[]))
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
)
INSERT INTO actions_handled (tenant_id, rule_id, event_id, n, error)
SELECT h.tenant_id, h.rule_id, h.event_id, h.n,
    CASE WHEN 'webhook' <> ALL (CAST(:channels AS text[])) THEN 'no webhook is configured: set DOSSIER_WEBHOOK_URL' END
FROM actions_handed AS h
