-- What digests carry on one channel, most urgent first: what is for that channel, and on mail whatever is sent at all.
-- Grain: one row per notification. Uses deliveries_digest_idx and notifications_pkey.
SELECT d.digest_id, n.title, n.message, n.urgency, n.created_at
FROM notifications.deliveries AS d
JOIN notifications.notifications AS n ON n.tenant_id = d.tenant_id AND n.id = d.notification_id
WHERE d.tenant_id = :tenant_id AND d.digest_id = ANY (CAST(:digests AS uuid[]))
    AND (n.channels IS NULL OR :channel = 'email' OR :channel = ANY (n.channels))
ORDER BY d.digest_id, n.urgency, n.created_at, n.id
