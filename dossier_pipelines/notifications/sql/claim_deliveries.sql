-- Take what is due on one channel, as many workers at once as there are: each row goes to one of them. A row whose worker
-- died is due again when its claim ends.
-- Grain: one row per delivery. Uses deliveries_due_idx from :floor on: entries of what was sent just now lie before it,
-- and while another transaction holds an old snapshot they cannot be removed.
WITH due AS (
    SELECT d.tenant_id, d.notification_id, d.channel, d.next_attempt_at AS due_at FROM notifications.deliveries AS d
    WHERE d.status IN ('queued', 'sending', 'failed') AND d.channel = :channel
        AND d.next_attempt_at >= CAST(:floor AS timestamptz) AND d.next_attempt_at <= clock_timestamp()
    ORDER BY d.next_attempt_at
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE notifications.deliveries AS d
    SET status = 'sending', attempts = d.attempts + 1, claimed_by = CAST(:worker AS uuid),
        next_attempt_at = clock_timestamp() + :claim_seconds * interval '1 second'
    FROM due
    WHERE d.tenant_id = due.tenant_id AND d.notification_id = due.notification_id AND d.channel = due.channel
    RETURNING d.tenant_id, d.notification_id, d.attempts, d.dedupe_key, due.due_at
)
SELECT c.tenant_id, CAST(c.notification_id AS text) AS notification_id, c.attempts, c.dedupe_key, c.due_at,
    CAST(n.user_id AS text) AS user_id, n.kind, n.urgency, n.title,
    n.message, n.metadata, n.created_at, coalesce(n.address, u.email) AS address, u.name, u.phone, u.locale, u.timezone,
    t.timezone AS tenant_timezone
FROM claimed AS c
JOIN notifications.notifications AS n ON n.tenant_id = c.tenant_id AND n.id = c.notification_id
LEFT JOIN raw.users AS u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
LEFT JOIN platform.tenants AS t ON t.tenant_id = n.tenant_id
ORDER BY c.due_at
