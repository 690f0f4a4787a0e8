-- What the outbox holds. Grain: one row per channel with anything due, waiting or dead. Uses deliveries_due_idx and
-- deliveries_dead_idx only: what was sent is not read.
SELECT d.channel, count(*) FILTER (WHERE d.next_attempt_at <= clock_timestamp()) AS due,
    count(*) AS pending, 0 AS dead,
    coalesce(extract(epoch FROM clock_timestamp() - min(d.next_attempt_at)), 0) AS oldest_seconds
FROM notifications.deliveries AS d WHERE d.status IN ('queued', 'sending', 'failed') GROUP BY d.channel
UNION ALL
SELECT d.channel, 0, 0, count(*), 0 FROM notifications.deliveries AS d WHERE d.status = 'dead' GROUP BY d.channel
