-- Tell the owner and the advocate of each scheduled hearing of the day and of the next, by the calendar of its tenant, and
-- record an event: once per hearing, person and local day of the hearing, so that a moved hearing is told again. The day
-- begins at the hour of the job, or earlier with a run by hand; for one that comes later, too: what was entered meanwhile and
-- has begun is told as well.
-- When the day is over, what is left of it is the next one, from now on.
-- Grain: one row of counts. Uses tenants_pkey; hearings_scheduled_idx by a range per tenant; cases_pkey, courts_pkey,
-- users_pkey; the unique keys of events and notifications keep a second run silent. The fence makes sure of the range: the
-- planner reads all hearings of each tenant instead.
WITH moment AS (
    SELECT t.tenant_id, t.timezone, t.as_of, d.day, d.begins
    FROM unnest(CAST(:tenants AS text[]), CAST(:days AS date[]), CAST(:begins AS timestamptz[]))
        AS d (tenant_id, day, begins)
    CROSS JOIN LATERAL (
        SELECT o.tenant_id, o.timezone, coalesce(o.clock_at, CAST(:now AS timestamptz)) AS as_of
        FROM platform.tenants AS o WHERE o.tenant_id = d.tenant_id LIMIT 1
    ) AS t
),
hearing AS MATERIALIZED (
    SELECT m.tenant_id, m.timezone, m.as_of, h.id, h.hearing_date, h.case_id, c.case_number, c.title, c.owner_id,
        c.assigned_to, o.name AS court, o.city, CAST(h.hearing_date AT TIME ZONE m.timezone AS date) AS day,
        CASE WHEN h.hearing_date > platform.day_end(CAST(m.as_of AT TIME ZONE m.timezone AS date), m.timezone)
            THEN 2 ELSE 1 END AS urgency
    FROM moment AS m
    CROSS JOIN LATERAL (
        SELECT x.id, x.hearing_date, x.case_id, x.court_id FROM raw.hearings AS x
        WHERE x.tenant_id = m.tenant_id AND x.status = 'scheduled' AND x.hearing_date > m.begins
            AND x.hearing_date <= platform.day_end(m.day + 1, m.timezone)
        OFFSET '0'
    ) AS h
    LEFT JOIN LATERAL (
        SELECT y.case_number, y.title, y.owner_id, y.assigned_to, y.court_id FROM raw.cases AS y
        WHERE y.tenant_id = m.tenant_id AND y.id = h.case_id LIMIT 1
    ) AS c ON true
    LEFT JOIN LATERAL (
        SELECT z.name, z.city FROM raw.courts AS z
        WHERE z.tenant_id = m.tenant_id AND z.id = coalesce(h.court_id, c.court_id) LIMIT 1
    ) AS o ON true
),
happened AS (
    INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, run_id, dedupe_key)
    SELECT h.tenant_id, 'hearing_reminder', 'hearing', h.id,
        jsonb_build_object('hearing_id', h.id, 'case_id', h.case_id, 'hearing_date', h.hearing_date), h.as_of,
        CAST(:run_id AS text), concat('hearing_reminder:', h.id, ':', h.day)
    FROM hearing AS h
    ON CONFLICT DO NOTHING
    RETURNING id
),
told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, kind, urgency, title, message, metadata, channels, dedupe_key, run_id, created_at
    )
    SELECT h.tenant_id, p.user_id, 'hearing_reminder', h.urgency,
        concat('Hearing Reminder: ', h.case_number, ' - ', coalesce(h.court, 'court not yet known')),
        concat(h.case_number, ' (' || nullif(h.title, '') || ')', ' is heard on ',
            to_char(h.hearing_date AT TIME ZONE z.zone, 'YYYY-MM-DD HH24:MI'), ' (', z.zone, ') at ',
            coalesce(nullif(concat_ws(', ', h.court, h.city), ''), 'a court that is not yet known'), '.'),
        jsonb_build_object('hearing_id', h.id, 'case_id', h.case_id, 'case_number', h.case_number, 'case_title', h.title,
            'court', h.court, 'city', h.city, 'hearing_at', h.hearing_date),
        ARRAY['in_app', 'email', 'whatsapp'], concat('hearing_reminder:', h.id, ':', p.user_id, ':', h.day),
        CAST(:run_id AS text), h.as_of
    FROM hearing AS h
    CROSS JOIN LATERAL (
        SELECT h.owner_id AS user_id WHERE h.owner_id IS NOT NULL
        UNION SELECT h.assigned_to WHERE h.assigned_to IS NOT NULL
    ) AS p
    LEFT JOIN LATERAL (
        SELECT v.timezone FROM raw.users AS v WHERE v.tenant_id = h.tenant_id AND v.id = p.user_id LIMIT 1
    ) AS u ON true
    CROSS JOIN LATERAL (
        SELECT notifications.known_zone(coalesce(u.timezone, h.timezone), h.timezone) AS zone OFFSET '0'
    ) AS z
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
    RETURNING id
)
SELECT (SELECT count(*) FROM hearing) AS hearings, (SELECT count(*) FROM happened) AS events,
    (SELECT count(*) FROM told) AS notifications,
    (SELECT count(*) FROM hearing AS h WHERE h.owner_id IS NULL AND h.assigned_to IS NULL) AS without_recipient,
    (SELECT count(*) FROM hearing AS h WHERE h.court IS NULL) AS without_court
