-- What digests carry, most urgent first. Grain: one row per notification. Uses deliveries_digest_idx and
-- notifications_pkey.
SELECT d.digest_id, n.title, n.message, n.urgency, n.created_at
FROM notifications.deliveries AS d
JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id
WHERE d.tenant_id = :tenant_id AND d.digest_id = ANY (CAST(:digests AS uuid[]))
ORDER BY d.digest_id, n.urgency, n.created_at, n.id
