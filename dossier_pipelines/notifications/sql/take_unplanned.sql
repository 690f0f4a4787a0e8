-- Take the notifications that nobody has decided about yet, those of this transaction among them. Whoever takes the same
-- ones waits and finds them gone. Grain: one row per notification. Reads the marks, which are few: planning takes them
-- away; then notifications_pkey, users_pkey and tenants_pkey, by probes, which LIMIT makes sure of.
WITH taken AS (
    DELETE FROM notifications.unplanned RETURNING tenant_id, notification_id
)
INSERT INTO planning
SELECT n.tenant_id, n.id, n.user_id, n.address, n.urgency, n.dedupe_key, n.created_at, z.zone, w.channels,
    NOT w.channels <@ ARRAY['in_app'], coalesce(n.address, u.email) IS NOT NULL,
    coalesce(u.whatsapp AND u.phone <> '', false), CAST(n.created_at AT TIME ZONE z.zone AS date)
FROM (SELECT DISTINCT tenant_id, notification_id FROM taken) AS m
CROSS JOIN LATERAL (
    SELECT o.tenant_id, o.id, o.user_id, o.address, o.urgency, o.dedupe_key, o.created_at, o.channels
    FROM notifications.notifications AS o WHERE o.tenant_id = m.tenant_id AND o.id = m.notification_id LIMIT 1
) AS n
LEFT JOIN LATERAL (
    SELECT p.email, p.phone, p.whatsapp, p.timezone FROM raw.users AS p
    WHERE p.tenant_id = n.tenant_id AND p.id = n.user_id LIMIT 1
) AS u ON true
LEFT JOIN LATERAL (
    SELECT o.timezone FROM platform.tenants AS o WHERE o.tenant_id = n.tenant_id LIMIT 1
) AS t ON true
CROSS JOIN LATERAL (
    SELECT notifications.known_zone(coalesce(u.timezone, t.timezone, 'UTC'), coalesce(t.timezone, 'UTC')) AS zone
    OFFSET '0'
) AS z
CROSS JOIN LATERAL (SELECT coalesce(n.channels, CAST(:channels AS text[])) AS channels) AS w
