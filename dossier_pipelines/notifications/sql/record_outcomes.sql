-- Write down how attempts ended, unless the worker lost its claim meanwhile; queued: none was made, and none counts.
-- Grain: one row per attempt.
-- Uses deliveries_pkey.
UPDATE notifications.deliveries AS d
SET status = o.status, attempts = CASE o.status WHEN 'queued' THEN d.attempts - 1 ELSE d.attempts END,
    last_error = CASE o.status WHEN 'queued' THEN d.last_error ELSE o.error END, provider_id = coalesce(o.provider_id, d.provider_id),
    sent_at = CASE WHEN o.status = 'sent' THEN clock_timestamp() END,
    next_attempt_at = CASE WHEN o.status = 'failed' THEN clock_timestamp() + o.seconds * interval '1 second'
        WHEN o.status = 'queued' THEN clock_timestamp() ELSE d.next_attempt_at END,
    claimed_by = NULL
FROM jsonb_to_recordset(CAST(:outcomes AS jsonb)) AS o (
    tenant_id text, notification_id uuid, channel text, attempt integer, status text, error text, provider_id text,
    seconds double precision
)
WHERE d.tenant_id = o.tenant_id AND d.notification_id = o.notification_id AND d.channel = o.channel
    AND d.status = 'sending' AND d.claimed_by = CAST(:worker AS uuid) AND d.attempts = o.attempt
