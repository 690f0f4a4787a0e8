-- Queue dead deliveries anew, with their attempts given back: one, or all of a kind or channel.
-- Grain: one row per delivery. Uses deliveries_dead_idx.
UPDATE notifications.deliveries AS d
SET status = 'queued', attempts = 0, next_attempt_at = clock_timestamp(), claimed_by = NULL
FROM notifications.notifications AS n
WHERE d.status = 'dead' AND n.tenant_id = d.tenant_id AND n.id = d.notification_id
    AND (CAST(:tenant_id AS text) IS NULL OR d.tenant_id = :tenant_id)
    AND (CAST(:notification_id AS uuid) IS NULL OR n.id = :notification_id)
    AND (CAST(:kind AS text) IS NULL OR n.kind = :kind)
    AND (CAST(:channel AS text) IS NULL OR d.channel = :channel)
