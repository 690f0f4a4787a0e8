-- What an analyst asks about messages. A zone that PostgreSQL does not know (somebody wrote it with psql) must not stop
-- everybody's notifications: the tenant's own, or UTC, stands in for it.
CREATE OR REPLACE FUNCTION notifications.known_zone(name text, otherwise text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM timestamptz 'epoch' AT TIME ZONE name;
    RETURN name;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN CASE WHEN otherwise = name OR otherwise IS NULL THEN 'UTC'
        ELSE notifications.known_zone(otherwise, 'UTC') END;
END $$;

-- The inbox of a person: unread ones newest first. A digest is no news of its own, it only carries what is here.
CREATE OR REPLACE VIEW notifications.inbox WITH (security_invoker = true) AS
SELECT n.tenant_id, n.user_id, n.id, n.kind, n.urgency, n.title, n.message, n.metadata, n.created_at,
    n.read_at IS NOT NULL AS read, n.read_at
FROM notifications.notifications AS n
WHERE n.kind <> 'digest';

-- Why a person did, or did not, get a message. Grain: one row per notification and channel that it might have taken;
-- for one in a digest, the digest's channels.
CREATE OR REPLACE VIEW notifications.delivery_explained WITH (security_invoker = true) AS
SELECT n.tenant_id, n.id AS notification_id, n.user_id, n.kind, n.title, n.created_at, i.day, c.channel,
    d.status, d.attempts, d.next_attempt_at, d.sent_at, d.last_error,
    CASE
        WHEN i.notification_id IS NULL THEN 'recorded; its deliveries are not decided yet'
        WHEN d.status IS NULL AND n.channels <@ ARRAY['in_app'] THEN 'not by this channel: it is for the inbox alone'
        WHEN d.status IS NULL AND c.channel = 'email' AND n.address IS NULL AND u.id IS NULL
            THEN 'no mail: the person is not among the users'
        WHEN d.status IS NULL AND c.channel = 'email' AND n.address IS NULL AND u.email IS NULL
            THEN 'no mail: the person has no mail address'
        WHEN d.status IS NULL AND NOT c.channel = ANY (n.channels)
            THEN 'not by this channel: the notification names others'
        WHEN d.status IS NULL AND c.channel = 'whatsapp' AND i.digest_id IS NOT NULL
            THEN 'not by this channel: the day''s number was reached, and digests do not go by WhatsApp'
        WHEN d.status IS NULL AND c.channel = 'whatsapp' AND u.whatsapp IS NOT TRUE
            THEN 'not by this channel: the person has not enabled WhatsApp'
        WHEN d.status IS NULL AND c.channel = 'whatsapp' AND coalesce(u.phone, '') = ''
            THEN 'not by this channel: the person has no telephone number'
        WHEN d.status IS NULL THEN 'not by this channel: it was not configured when the message was recorded'
        ELSE concat(
            CASE WHEN i.digest_id IS NOT NULL AND c.channel <> 'in_app'
                THEN concat('in the digest of ', i.day, ', because the day''s number was reached: ') END,
            CASE d.status
                WHEN 'sent' THEN concat('sent at ', d.sent_at)
                WHEN 'queued' THEN concat('waits until ', d.next_attempt_at)
                WHEN 'sending' THEN concat('is being sent, attempt ', d.attempts)
                WHEN 'failed' THEN concat('attempt ', d.attempts, ' failed (', d.last_error, '); the next is at ',
                    d.next_attempt_at)
                WHEN 'dead' THEN concat('given up after ', d.attempts,
                    CASE WHEN d.attempts = 1 THEN ' attempt: ' ELSE ' attempts: ' END, d.last_error,
                    '. Replay it when the cause is gone')
            END)
    END AS explanation
FROM notifications.notifications AS n
CROSS JOIN (VALUES ('in_app'), ('email'), ('whatsapp'), ('webhook')) AS c (channel)
LEFT JOIN notifications.deliveries AS i
    ON i.tenant_id = n.tenant_id AND i.notification_id = n.id AND i.channel = 'in_app'
LEFT JOIN notifications.deliveries AS d ON d.tenant_id = n.tenant_id AND d.channel = c.channel
    AND d.notification_id = CASE WHEN c.channel = 'in_app' THEN n.id ELSE coalesce(i.digest_id, n.id) END
LEFT JOIN raw.users AS u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
WHERE n.kind <> 'digest' AND (c.channel <> 'whatsapp' OR 'whatsapp' = ANY (n.channels) OR d.status IS NOT NULL);
