-- What digests carry, most urgent first. Grain: one row per notification. Uses notifications_digest_idx.
SELECT n.digest_id, n.title, n.message, n.urgency, n.created_at
FROM notifications.notifications AS n
WHERE n.tenant_id = :tenant_id AND n.digest_id = ANY (CAST(:digests AS uuid[]))
ORDER BY n.digest_id, n.urgency, n.created_at, n.id
