-- Tell the administrators of a tenant what is unusual on its newest day, by the robust detector, and record an event: once
-- per metric and day. Past days, which are taken anew by a backfill, alarm nobody.
-- Grain: one row of counts. Uses metric_reach_pkey, anomalies_pkey by probes; users by tenant and role.
WITH unusual AS MATERIALIZED (
    SELECT a.tenant_id, a.metric, a.day, a.value, a.expected, a.low, a.high, a.deviation, m.as_of
    FROM litigation.metric_reach AS r
    JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
    CROSS JOIN LATERAL (SELECT coalesce(t.clock_at, CAST(:now AS timestamptz)) AS as_of) AS m
    JOIN litigation.anomalies AS a ON a.tenant_id = r.tenant_id AND a.day = r.newest_day AND a.detector = 'weekday_robust'
    WHERE r.newest_day = litigation.newest_whole_day(m.as_of, t.timezone)
        AND r.newest_day BETWEEN CAST(:first_day AS date) AND CAST(:last_day AS date)
        AND (r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL)
),
happened AS (
    INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, run_id, dedupe_key)
    SELECT u.tenant_id, 'metric_unusual', 'metric', CAST(md5(concat(u.tenant_id, ':', u.metric)) AS uuid),
        jsonb_build_object('metric', u.metric, 'day', u.day, 'value', u.value, 'expected', u.expected, 'low', u.low,
            'high', u.high, 'detector', 'weekday_robust'),
        u.as_of, CAST(:run_id AS text), concat('metric_unusual:', u.metric, ':', u.day)
    FROM unusual AS u
    ON CONFLICT DO NOTHING
    RETURNING id
),
told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, kind, urgency, title, message, metadata, dedupe_key, run_id, created_at
    )
    SELECT u.tenant_id, p.id, 'metric_unusual', 3, concat('Unusual: ', replace(u.metric, '_', ' '), ' on ', u.day),
        concat('It is ', round(CAST(u.value AS numeric), 4), ', where ', round(CAST(u.low AS numeric), 4), ' to ',
            round(CAST(u.high AS numeric), 4), ' is usual. See litigation.anomalies for the records that changed.'),
        jsonb_build_object('metric', u.metric, 'day', u.day),
        concat('metric_unusual:', u.metric, ':', u.day, ':', p.id), CAST(:run_id AS text), u.as_of
    FROM unusual AS u
    JOIN raw.users AS p ON p.tenant_id = u.tenant_id AND p.role = 'admin'
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
    RETURNING id
)
SELECT (SELECT count(*) FROM happened) AS events, (SELECT count(*) FROM told) AS notifications
