-- Tell each person in one message which open tasks and scheduled hearings of theirs are due until the next morning, most
-- urgent first, and record an event per item and date. A task is its assignee's, or else the people's of its case; a
-- hearing is the owner's and the advocate's of its case. A morning goes on where the ones before ended and reaches to the
-- next, whenever it comes and however clocks are changed: no gap, and nothing twice. One message a person and morning,
-- which its end names: a date comes twice when the zone of a tenant changes. :apart names a run before the hour.
-- Grain: one row of counts. Uses tenants_pkey; tasks_open_due_idx and hearings_scheduled_idx by a range per tenant;
-- cases_pkey, courts_pkey; the unique keys of events and notifications keep a second run silent.
WITH moment AS (
    SELECT d.tenant_id, t.as_of, greatest(d.begins, d.reached) AS begins, d.ends,
        concat(to_char(d.ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS'), ':' || CAST(:apart AS text)) AS morning
    FROM unnest(
        CAST(:tenants AS text[]), CAST(:begins AS timestamptz[]), CAST(:reached AS timestamptz[]),
        CAST(:ends AS timestamptz[])
    ) AS d (tenant_id, begins, reached, ends)
    CROSS JOIN LATERAL (
        SELECT coalesce(o.clock_at, CAST(:now AS timestamptz)) AS as_of
        FROM platform.tenants AS o WHERE o.tenant_id = d.tenant_id LIMIT 1
    ) AS t
),
item AS MATERIALIZED (
    SELECT m.tenant_id, m.as_of, m.morning, i.type, i.id, i.title, i.due_at, i.priority, i.assigned_to AS assignee, i.depth,
        c.case_number, c.title AS case_title, c.owner_id, c.assigned_to, o.name AS court, o.city
    FROM moment AS m
    CROSS JOIN LATERAL (
        SELECT 'task' AS type, t.id, t.title, t.due_date AS due_at, t.priority, t.assigned_to, t.case_id,
            CAST(NULL AS uuid) AS court_id, t.extra -> 'automation_depth' AS depth
        FROM raw.tasks AS t
        WHERE t.tenant_id = m.tenant_id AND t.status IN ('pending', 'in_progress')
            AND t.due_date > m.begins AND t.due_date <= m.ends
        UNION ALL
        SELECT 'hearing', h.id, NULL, h.hearing_date, 'high', NULL, h.case_id, h.court_id, NULL
        FROM raw.hearings AS h
        WHERE h.tenant_id = m.tenant_id AND h.status = 'scheduled'
            AND h.hearing_date > m.begins AND h.hearing_date <= m.ends
    ) AS i
    LEFT JOIN LATERAL (
        SELECT y.case_number, y.title, y.owner_id, y.assigned_to, y.court_id FROM raw.cases AS y
        WHERE y.tenant_id = m.tenant_id AND y.id = i.case_id LIMIT 1
    ) AS c ON true
    LEFT JOIN LATERAL (
        SELECT z.name, z.city FROM raw.courts AS z
        WHERE i.type = 'hearing' AND z.tenant_id = m.tenant_id AND z.id = coalesce(i.court_id, c.court_id) LIMIT 1
    ) AS o ON true
),
happened AS (
    INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, run_id, dedupe_key)
    SELECT i.tenant_id, 'deadline_approaching', i.type, i.id,
        jsonb_build_object('entity_type', i.type, 'entity_id', i.id, 'priority', i.priority, 'due_date', i.due_at,
            'hours_until_due', round(CAST(extract(epoch FROM i.due_at - i.as_of) / 3600 AS numeric), 2))
            || jsonb_strip_nulls(jsonb_build_object('automation_depth', i.depth)),
        i.as_of, CAST(:run_id AS text),
        concat('deadline_approaching:', i.type, ':', i.id, ':', to_char(i.due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS'))
    FROM item AS i
    ON CONFLICT DO NOTHING
    RETURNING id
),
message AS MATERIALIZED (
    SELECT i.tenant_id, i.morning, i.as_of, p.user_id, count(*) AS items,
        min(CASE i.priority WHEN 'critical' THEN 1 WHEN 'high' THEN 2 ELSE 3 END) AS urgency,
        jsonb_agg(jsonb_build_object('type', i.type, 'id', i.id,
            'title', coalesce(i.title, nullif(i.case_title, ''), i.case_number), 'due_at', i.due_at,
            'priority', i.priority, 'case_number', i.case_number, 'court', i.court, 'city', i.city)
            ORDER BY i.priority NOT IN ('high', 'critical'), i.due_at, i.id) AS listed
    FROM item AS i
    CROSS JOIN LATERAL (
        SELECT i.assignee AS user_id WHERE i.assignee IS NOT NULL
        UNION SELECT i.owner_id WHERE i.assignee IS NULL AND i.owner_id IS NOT NULL
        UNION SELECT i.assigned_to WHERE i.assignee IS NULL AND i.assigned_to IS NOT NULL
    ) AS p
    GROUP BY i.tenant_id, i.morning, i.as_of, p.user_id
),
told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, kind, urgency, title, message, metadata, channels, dedupe_key, run_id, created_at
    )
    SELECT g.tenant_id, g.user_id, 'deadlines', g.urgency, 'Your Upcoming Deadlines (Next 24 Hours)',
        concat(g.items, CASE g.items WHEN 1 THEN ' item is' ELSE ' items are' END, ' due in the next 24 hours.'),
        jsonb_build_object('items', g.listed), ARRAY['in_app', 'email'], concat('deadlines:', g.user_id, ':', g.morning),
        CAST(:run_id AS text), g.as_of
    FROM message AS g
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
    RETURNING id
)
SELECT (SELECT count(*) FROM item AS i WHERE i.type = 'task') AS tasks,
    (SELECT count(*) FROM item AS i WHERE i.type = 'hearing') AS hearings, (SELECT count(*) FROM happened) AS events,
    (SELECT count(*) FROM told) AS notifications,
    (SELECT count(*) FROM item AS i WHERE coalesce(i.assignee, i.owner_id, i.assigned_to) IS NULL) AS without_recipient
