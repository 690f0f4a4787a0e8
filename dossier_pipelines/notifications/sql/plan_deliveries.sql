-- Decide how the notifications of the working table planning reach their person: the day's first :daily_number one by
-- one, most urgent first, the rest in one digest when the person's own day ends. Mail stands in for a channel that a
-- notification names and that is not in :there, or does not reach the person; a digest takes mail for
-- WhatsApp, which has approved templates only.
-- Grain: one row per planned notification; returns one row of counts. Uses daily_counts_pkey, whose rows count_days has
-- written and locked.
WITH ranked AS MATERIALIZED (
    SELECT r.*, r.has_mail AND ('email' = ANY (r.channels) OR NOT r.channels <@ CASE
        WHEN r.has_whatsapp AND NOT r.exceeds THEN CAST(:there AS text[])
        ELSE array_remove(CAST(:there AS text[]), 'whatsapp') END) AS by_mail
    FROM (
        SELECT p.*, c.digest_id, false AS exceeds
        FROM planning AS p
        LEFT JOIN notifications.daily_counts AS c
            ON c.tenant_id = p.tenant_id AND c.user_id = p.user_id AND c.day = p.day
        WHERE c.digest_id IS NULL
        UNION ALL
        -- Only a day with a digest has more than its number: nobody else is ranked.
        SELECT p.*, c.digest_id,
            p.sends AND c.counted - count(*) FILTER (WHERE p.sends) OVER person
                + row_number() OVER (person ORDER BY NOT p.sends, p.urgency, p.created_at, p.id)
                > CAST(:daily_number AS integer)
        FROM planning AS p
        JOIN notifications.daily_counts AS c
            ON c.tenant_id = p.tenant_id AND c.user_id = p.user_id AND c.day = p.day
        WHERE c.digest_id IS NOT NULL
        WINDOW person AS (PARTITION BY p.tenant_id, p.user_id, p.day)
    ) AS r
),
digest_added AS (
    INSERT INTO notifications.notifications (
        tenant_id, id, user_id, address, kind, urgency, title, message, metadata, dedupe_key, run_id, created_at
    )
    SELECT DISTINCT ON (r.tenant_id, r.digest_id) r.tenant_id, r.digest_id, r.user_id, r.address, 'digest', 4,
        format('More notifications of %s', r.day), '', jsonb_build_object('day', r.day),
        format('digest:%s:%s:%s', r.user_id, r.day, r.digest_id), CAST(:run_id AS text), r.created_at
    FROM ranked AS r
    WHERE r.exceeds
    ORDER BY r.tenant_id, r.digest_id, r.has_mail DESC, r.urgency
    -- Another transaction may have opened it.
    ON CONFLICT DO NOTHING
),
delivery AS (
    -- What is recorded is in the inbox. Nothing planned has deliveries yet (leave_decided), so that none can conflict:
    -- to ask for each of a bulk is half of the work.
    INSERT INTO notifications.deliveries (
        tenant_id, notification_id, channel, status, next_attempt_at, dedupe_key, sent_at, day, digest_id
    )
    SELECT r.tenant_id, r.id, c.channel, CASE c.channel WHEN 'in_app' THEN 'sent' ELSE 'queued' END, r.created_at,
        r.dedupe_key || ':' || c.channel, CASE c.channel WHEN 'in_app' THEN clock_timestamp() END, r.day,
        CASE WHEN r.exceeds THEN r.digest_id END
    FROM ranked AS r
    CROSS JOIN unnest(CAST(:there AS text[])) AS c (channel)
    WHERE c.channel = 'in_app' OR NOT r.exceeds AND CASE c.channel
        WHEN 'email' THEN r.by_mail
        WHEN 'whatsapp' THEN r.has_whatsapp AND 'whatsapp' = ANY (r.channels)
        ELSE c.channel = ANY (r.channels) END
    RETURNING channel
),
digest_delivery AS (
    INSERT INTO notifications.deliveries (
        tenant_id, notification_id, channel, status, next_attempt_at, dedupe_key, day
    )
    SELECT d.tenant_id, d.digest_id, d.channel, 'queued', CAST(d.day + 1 AS timestamp) AT TIME ZONE d.zone,
        format('digest:%s:%s:%s:%s', d.user_id, d.day, d.digest_id, d.channel), d.day
    FROM (
        SELECT DISTINCT r.tenant_id, r.digest_id, r.user_id, r.day, r.zone, c.channel
        FROM ranked AS r
        CROSS JOIN unnest(CAST(:there AS text[])) AS c (channel)
        WHERE r.exceeds AND CASE c.channel
            WHEN 'in_app' THEN false
            WHEN 'email' THEN r.by_mail
            WHEN 'whatsapp' THEN false
            ELSE c.channel = ANY (r.channels) END
    ) AS d
    ON CONFLICT DO NOTHING
    RETURNING channel
)
SELECT
    (SELECT count(*) FROM ranked) AS planned,
    (SELECT count(*) FROM ranked AS r WHERE r.exceeds) AS in_digests,
    (SELECT count(*) FROM delivery AS v WHERE v.channel <> 'in_app') + (SELECT count(*) FROM digest_delivery) AS deliveries
