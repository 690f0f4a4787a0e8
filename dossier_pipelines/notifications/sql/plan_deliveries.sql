-- Decide how the notifications of the working table planning reach their person: the day's first :daily_number one by
-- one, most urgent first, the rest in one digest when the person's own day ends.
-- Grain: one row per planned notification; returns one row of counts. Uses daily_counts_pkey, whose rows count_days has
-- written and locked.
WITH ranked AS MATERIALIZED (
    SELECT p.*, c.digest_id,
        c.counted - count(*) OVER person + row_number() OVER (person ORDER BY p.urgency, p.created_at, p.id)
            > CAST(:daily_number AS integer) AS exceeds
    FROM planning AS p
    JOIN notifications.daily_counts AS c ON c.tenant_id = p.tenant_id AND c.user_id = p.user_id AND c.day = p.day
    WINDOW person AS (PARTITION BY p.tenant_id, p.user_id, p.day)
),
digest AS MATERIALIZED (
    SELECT DISTINCT ON (r.tenant_id, r.digest_id) r.tenant_id, r.digest_id AS id, r.user_id, r.address, r.has_mail, r.day,
        r.created_at, CAST(r.day + 1 AS timestamp) AT TIME ZONE r.zone AS due_at,
        format('digest:%s:%s:%s', r.user_id, r.day, r.digest_id) AS dedupe_key
    FROM ranked AS r
    WHERE r.exceeds
    ORDER BY r.tenant_id, r.digest_id, r.has_mail DESC, r.urgency
),
digest_added AS (
    INSERT INTO notifications.notifications (
        tenant_id, id, user_id, address, kind, urgency, title, message, metadata, dedupe_key, run_id, created_at
    )
    SELECT d.tenant_id, d.id, d.user_id, d.address, 'digest', 4, format('More notifications of %s', d.day), '',
        jsonb_build_object('day', d.day),
        d.dedupe_key, CAST(:run_id AS text), d.created_at
    FROM digest AS d
    -- Another transaction may have opened it.
    ON CONFLICT DO NOTHING
),
delivery AS (
    SELECT r.tenant_id, r.id, c.channel, r.has_mail, r.dedupe_key, r.created_at AS due_at, r.day,
        CASE WHEN r.exceeds THEN r.digest_id END AS digest_id
    FROM ranked AS r
    CROSS JOIN unnest(CAST(:channels AS text[])) AS c (channel)
    WHERE NOT r.exceeds OR c.channel = 'in_app'
    UNION ALL
    SELECT d.tenant_id, d.id, c.channel, d.has_mail, d.dedupe_key, d.due_at, d.day, NULL FROM digest AS d
    CROSS JOIN unnest(CAST(:channels AS text[])) AS c (channel)
    WHERE c.channel <> 'in_app'
),
delivery_added AS (
    -- What is recorded is in the inbox.
    INSERT INTO notifications.deliveries (
        tenant_id, notification_id, channel, status, next_attempt_at, dedupe_key, sent_at, day, digest_id
    )
    SELECT v.tenant_id, v.id, v.channel, CASE v.channel WHEN 'in_app' THEN 'sent' ELSE 'queued' END, v.due_at,
        v.dedupe_key || ':' || v.channel, CASE v.channel WHEN 'in_app' THEN clock_timestamp() END, v.day, v.digest_id
    FROM delivery AS v
    WHERE v.channel <> 'email' OR v.has_mail
    ON CONFLICT DO NOTHING
    RETURNING channel
)
SELECT
    (SELECT count(*) FROM ranked) AS planned,
    (SELECT count(*) FROM ranked AS r WHERE r.exceeds) AS in_digests,
    (SELECT count(*) FROM delivery_added AS a WHERE a.channel <> 'in_app') AS deliveries
