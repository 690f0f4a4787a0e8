-- Queue mails in place of messages that were given up on another channel just now, in the same transaction: one for each
-- that falls back, unless it goes by mail already or its person has no mail address.
-- Grain: one row per delivery. Uses deliveries_pkey, notifications_pkey and users_pkey.
INSERT INTO notifications.deliveries (tenant_id, notification_id, channel, status, next_attempt_at, dedupe_key, day)
SELECT d.tenant_id, d.notification_id, 'email', 'queued', clock_timestamp(), concat(n.dedupe_key, ':', 'email'), d.day
FROM jsonb_to_recordset(CAST(:outcomes AS jsonb)) AS o (
    tenant_id text, notification_id uuid, channel text, attempt integer, falls_back boolean
)
JOIN notifications.deliveries AS d
    ON d.tenant_id = o.tenant_id AND d.notification_id = o.notification_id AND d.channel = o.channel
JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id
LEFT JOIN raw.users AS u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
WHERE o.falls_back AND d.status = 'dead' AND d.attempts = o.attempt AND coalesce(n.address, u.email) IS NOT NULL
ON CONFLICT DO NOTHING
