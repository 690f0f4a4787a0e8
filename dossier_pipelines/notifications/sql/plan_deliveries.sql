-- Decide how the notifications that nobody has decided about yet reach their person: the day's first :daily_number
-- one by one, most urgent first, the rest in one digest when the person's own day ends.
-- Grain: one row per planned notification; returns one row of counts. Uses notifications_unplanned_idx,
-- daily_counts_pkey and users_pkey. The row of daily_counts is the lock: writers of one person and day wait for each
-- other there, in the order of the key, so that they cannot deadlock.
-- A digest is closed by clearing its digest_id under the same lock; whoever comes late opens another one.
WITH unplanned AS MATERIALIZED (
    SELECT n.tenant_id, n.id, n.user_id, n.address, n.urgency, n.dedupe_key, n.created_at
    FROM notifications.notifications AS n
    WHERE n.planned_at IS NULL
    FOR UPDATE SKIP LOCKED
),
zone AS MATERIALIZED (
    SELECT z.name, z.otherwise, notifications.known_zone(z.name, z.otherwise) AS known
    FROM (
        SELECT DISTINCT coalesce(u.timezone, t.timezone, 'UTC') AS name, coalesce(t.timezone, 'UTC') AS otherwise
        FROM unplanned AS n
        LEFT JOIN raw.users AS u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
        LEFT JOIN platform.tenants AS t ON t.tenant_id = n.tenant_id
    ) AS z
),
located AS MATERIALIZED (
    SELECT n.*, z.known AS zone, coalesce(n.address, u.email) IS NOT NULL AS has_mail,
        CAST(n.created_at AT TIME ZONE z.known AS date) AS day
    FROM unplanned AS n
    LEFT JOIN raw.users AS u ON u.tenant_id = n.tenant_id AND u.id = n.user_id
    LEFT JOIN platform.tenants AS t ON t.tenant_id = n.tenant_id
    JOIN zone AS z
        ON z.name = coalesce(u.timezone, t.timezone, 'UTC') AND z.otherwise = coalesce(t.timezone, 'UTC')
),
counted AS (
    INSERT INTO notifications.daily_counts AS c (tenant_id, user_id, day, counted, digest_id)
    SELECT l.tenant_id, l.user_id, l.day, count(*),
        CASE WHEN count(*) > CAST(:daily_number AS integer) THEN gen_random_uuid() END
    FROM located AS l
    GROUP BY l.tenant_id, l.user_id, l.day
    ORDER BY l.tenant_id, l.user_id, l.day
    ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET counted = c.counted + excluded.counted,
        digest_id = CASE WHEN c.counted + excluded.counted > CAST(:daily_number AS integer)
            THEN coalesce(c.digest_id, gen_random_uuid()) END
    RETURNING c.tenant_id, c.user_id, c.day, c.counted, c.digest_id
),
ranked AS MATERIALIZED (
    SELECT l.*, c.digest_id,
        c.counted - count(*) OVER person + row_number() OVER (person ORDER BY l.urgency, l.created_at, l.id)
            > CAST(:daily_number AS integer) AS exceeds
    FROM located AS l
    JOIN counted AS c ON c.tenant_id = l.tenant_id AND c.user_id = l.user_id AND c.day = l.day
    WINDOW person AS (PARTITION BY l.tenant_id, l.user_id, l.day)
),
planned AS (
    UPDATE notifications.notifications AS n
    SET planned_at = clock_timestamp(), day = r.day, digest_id = CASE WHEN r.exceeds THEN r.digest_id END
    FROM ranked AS r
    WHERE n.tenant_id = r.tenant_id AND n.id = r.id
),
digest AS MATERIALIZED (
    SELECT DISTINCT ON (r.tenant_id, r.digest_id) r.tenant_id, r.digest_id AS id, r.user_id, r.address, r.has_mail, r.day,
        r.created_at, CAST(r.day + 1 AS timestamp) AT TIME ZONE r.zone AS due_at,
        format('digest:%s:%s:%s', r.user_id, r.day, r.digest_id) AS dedupe_key
    FROM ranked AS r
    WHERE r.exceeds
    ORDER BY r.tenant_id, r.digest_id, r.urgency
),
digest_added AS (
    INSERT INTO notifications.notifications (
        tenant_id, id, user_id, address, kind, urgency, title, message, metadata, dedupe_key, run_id, created_at,
        planned_at, day
    )
    SELECT d.tenant_id, d.id, d.user_id, d.address, 'digest', 4, format('More notifications of %s', d.day), '', '{}',
        d.dedupe_key, CAST(:run_id AS text), d.created_at, clock_timestamp(), d.day
    FROM digest AS d
    -- Another transaction may have opened it.
    ON CONFLICT DO NOTHING
),
delivery AS (
    SELECT r.tenant_id, r.id, c.channel, r.has_mail, r.dedupe_key, r.created_at AS due_at FROM ranked AS r
    CROSS JOIN unnest(CAST(:channels AS text[])) AS c (channel)
    WHERE NOT r.exceeds OR c.channel = 'in_app'
    UNION ALL
    SELECT d.tenant_id, d.id, c.channel, d.has_mail, d.dedupe_key, d.due_at FROM digest AS d
    CROSS JOIN unnest(CAST(:channels AS text[])) AS c (channel)
    WHERE c.channel <> 'in_app'
),
delivery_added AS (
    -- What is recorded is in the inbox.
    INSERT INTO notifications.deliveries (
        tenant_id, notification_id, channel, status, next_attempt_at, dedupe_key, sent_at
    )
    SELECT v.tenant_id, v.id, v.channel, CASE v.channel WHEN 'in_app' THEN 'sent' ELSE 'queued' END, v.due_at,
        v.dedupe_key || ':' || v.channel, CASE v.channel WHEN 'in_app' THEN clock_timestamp() END
    FROM delivery AS v
    WHERE v.channel <> 'email' OR v.has_mail
    ON CONFLICT DO NOTHING
    RETURNING channel
)
SELECT
    (SELECT count(*) FROM ranked) AS planned,
    (SELECT count(*) FROM ranked AS r WHERE r.exceeds) AS in_digests,
    (SELECT count(*) FROM delivery_added AS a WHERE a.channel <> 'in_app') AS deliveries
