-- Mark commitments that are late, record one event for each, and tell the commitment's owner and the dossier's owner
-- (once, when they are the same person): all in this statement, or with :dry_run nothing of it.
-- Grain: one row per late commitment that was not marked. Uses commitments_open_due_idx; dossiers_pkey; the unique keys
-- of events and notifications keep a second detection of the same lateness silent.
WITH moment AS (
    SELECT t.tenant_id, m.as_of, CAST(m.as_of AT TIME ZONE t.timezone AS date) AS today
    FROM platform.tenants AS t
    CROSS JOIN LATERAL (
        SELECT coalesce(CAST(:as_of AS timestamptz), t.clock_at, CAST(:now AS timestamptz)) AS as_of
    ) AS m
    WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
),
due AS MATERIALIZED (
    SELECT c.tenant_id, c.id, c.dossier_id, coalesce(c.description, 'no description') AS description, c.due_date,
        c.owner_id, c.priority, c.status, m.as_of, m.today, d.name AS dossier, d.owner_id AS dossier_owner_id,
        k.key, CAST(md5(k.key) AS uuid) AS event_id
    FROM moment AS m
    JOIN raw.commitments AS c ON c.tenant_id = m.tenant_id AND c.due_date < m.today
    JOIN raw.dossiers AS d ON d.tenant_id = c.tenant_id AND d.id = c.dossier_id
    CROSS JOIN LATERAL (SELECT format('commitment_overdue:%s:%s', c.id, c.due_date) AS key) AS k
    WHERE c.status IN ('pending', 'in_progress') AND coalesce(c.created_at <= m.as_of, true)
        AND (CAST(:dossier_id AS uuid) IS NULL OR c.dossier_id = :dossier_id)
),
-- What changed since the statement began is judged anew. Later steps read only what was marked, and join nothing with
-- it: how many those are, the planner cannot know.
marked AS (
    UPDATE raw.commitments AS c SET status = 'overdue', status_since = u.as_of
    FROM due AS u
    WHERE NOT CAST(:dry_run AS boolean) AND c.tenant_id = u.tenant_id AND c.id = u.id
        AND c.status IN ('pending', 'in_progress') AND c.due_date = u.due_date
    RETURNING u.*
),
happened AS (
    INSERT INTO platform.events (
        tenant_id, id, type, entity_type, entity_id, payload, occurred_at, run_id, dedupe_key
    )
    SELECT l.tenant_id, l.event_id, 'commitment_overdue', 'commitment', l.id,
        jsonb_build_object('commitment_id', l.id, 'dossier_id', l.dossier_id, 'due_date', l.due_date,
            'days_overdue', l.today - l.due_date, 'priority', l.priority, 'previous_status', l.status),
        l.as_of, CAST(:run_id AS text), l.key
    FROM marked AS l
    ON CONFLICT DO NOTHING
    RETURNING id
),
told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, kind, urgency, title, message, metadata, event_id, dedupe_key, run_id, created_at
    )
    SELECT l.tenant_id, p.user_id, 'commitment_overdue',
        CASE l.priority WHEN 'critical' THEN 1 WHEN 'high' THEN 2 WHEN 'low' THEN 4 ELSE 3 END,
        format('Commitment overdue: %s', l.description),
        format('%s is overdue (due %s). Dossier: %s. Recommended: Update status or extend deadline.',
            l.description, l.due_date, l.dossier),
        jsonb_build_object('commitment_id', l.id, 'dossier_id', l.dossier_id, 'due_date', l.due_date),
        l.event_id, format('%s:%s', l.key, p.user_id), CAST(:run_id AS text), CAST(:now AS timestamptz)
    FROM marked AS l
    CROSS JOIN LATERAL (
        SELECT l.owner_id AS user_id WHERE l.owner_id IS NOT NULL
        UNION SELECT l.dossier_owner_id WHERE l.dossier_owner_id IS NOT NULL
    ) AS p
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
    RETURNING id
)
SELECT f.tenant_id, f.id, f.dossier_id, f.description, f.due_date, f.owner_id, f.status AS previous_status,
    (SELECT count(*) FROM told) AS notifications, (SELECT count(*) FROM happened) AS events
FROM (
    SELECT * FROM marked
    UNION ALL
    SELECT * FROM due WHERE CAST(:dry_run AS boolean)
) AS f
ORDER BY f.tenant_id, f.due_date, f.id
