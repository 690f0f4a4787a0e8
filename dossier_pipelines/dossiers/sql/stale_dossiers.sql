-- Take the marks that are visible now and find every dossier whose score is stale as of each tenant's moment.
-- Grain: one row of refresh_keys per dossier. A score is stale when a record of it changed (marks), when it is 60
-- minutes old or time moved a statistic of it over a boundary (both by health_scores_stale_idx), or when the tenant's
-- last refresh had other settings or a later moment; only then are all its scores read.
-- Returns how many there are, and how many of them are gone.
-- In full mode every other dossier comes along, not stale, so that a difference found there is drift.
-- A day is 24 hours in every window.
WITH moment AS (
    SELECT t.tenant_id, m.as_of, d.today,
        platform.day_end(d.today, t.timezone) + interval '1 microsecond' AS midnight,
        coalesce(latest.settings_version <> :version OR latest.as_of > m.as_of, false) AS all_stale
    FROM platform.tenants AS t
    CROSS JOIN LATERAL (
        SELECT coalesce(CAST(:as_of AS timestamptz), t.clock_at, CAST(:now AS timestamptz)) AS as_of
    ) AS m
    CROSS JOIN LATERAL (SELECT CAST(m.as_of AT TIME ZONE t.timezone AS date) AS today) AS d
    LEFT JOIN LATERAL (
        SELECT h.settings_version, h.as_of FROM dossiers.health_refreshes AS h
        WHERE h.tenant_id = t.tenant_id ORDER BY h.refresh_id DESC LIMIT 1
    ) AS latest ON true
    WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
),
taken AS (
    DELETE FROM platform.stale_marks AS s USING moment AS m
    WHERE s.consumer = 'dossiers.health' AND s.tenant_id = m.tenant_id
    RETURNING s.tenant_id, s.dossier_id, s.entity, s.record_ids, s.marked_at
),
-- Which records a change came from is only asked where there is a score to compare with. Of several marks of one
-- record the first says what it was then. LIMIT makes it a probe of the primary key per mark: how many there are, the
-- planner cannot know.
marked AS (
    SELECT DISTINCT ON (t.tenant_id, t.dossier_id, split_part(t.entity, ' ', 1), r.id)
        t.tenant_id, t.dossier_id, t.entity, r.id
    FROM taken AS t
    LEFT JOIN LATERAL (
        SELECT h.dossier_id FROM dossiers.health_scores AS h
        WHERE h.tenant_id = t.tenant_id AND h.dossier_id = t.dossier_id LIMIT 1
    ) AS s ON true
    LEFT JOIN LATERAL unnest(CASE WHEN s.dossier_id IS NOT NULL THEN t.record_ids END) AS r (id) ON true
    ORDER BY t.tenant_id, t.dossier_id, split_part(t.entity, ' ', 1), r.id, t.marked_at
),
-- One grouping instead of a join with the marks, which the planner, expecting few, would do in a nested loop.
stale AS (
    SELECT f.tenant_id, f.dossier_id,
        coalesce(bool_or(f.entity = 'dossiers retyped'), false) AS retyped,
        jsonb_object_agg(f.id, split_part(f.entity, ' ', 2))
            FILTER (WHERE f.id IS NOT NULL AND f.entity LIKE 'engagements %') AS engagements,
        jsonb_object_agg(f.id, split_part(f.entity, ' ', 2))
            FILTER (WHERE f.id IS NOT NULL AND f.entity LIKE 'commitments %') AS commitments
    FROM (
        SELECT m.tenant_id, m.dossier_id, m.entity, m.id FROM marked AS m
        UNION ALL
        SELECT s.tenant_id, s.dossier_id, NULL, NULL FROM moment AS m
        JOIN dossiers.health_scores AS s ON s.tenant_id = m.tenant_id AND s.stale_at <= m.as_of
        UNION ALL
        SELECT s.tenant_id, s.dossier_id, NULL, NULL FROM moment AS m
        JOIN dossiers.health_scores AS s ON s.tenant_id = m.tenant_id
        WHERE m.all_stale
    ) AS f
    GROUP BY f.tenant_id, f.dossier_id
),
wanted AS (
    -- Probes again: few dossiers are stale, and the planner expects a third of them.
    SELECT s.tenant_id, s.dossier_id, true AS stale, d.id IS NOT NULL AS lives, d.type,
        s.retyped, s.engagements, s.commitments
    FROM stale AS s
    LEFT JOIN LATERAL (
        SELECT r.id, r.type FROM raw.dossiers AS r WHERE r.tenant_id = s.tenant_id AND r.id = s.dossier_id LIMIT 1
    ) AS d ON true
    WHERE NOT CAST(:full AS boolean)
    UNION ALL
    SELECT coalesce(d.tenant_id, s.tenant_id), coalesce(d.id, s.dossier_id), s.dossier_id IS NOT NULL,
        d.id IS NOT NULL, d.type, coalesce(s.retyped, false), s.engagements, s.commitments
    FROM (
        SELECT r.tenant_id, r.id, r.type FROM moment AS m
        JOIN raw.dossiers AS r ON r.tenant_id = m.tenant_id
        WHERE CAST(:full AS boolean)
    ) AS d
    FULL JOIN stale AS s ON s.tenant_id = d.tenant_id AND s.dossier_id = d.id
    WHERE CAST(:full AS boolean)
),
chosen AS (
    INSERT INTO refresh_keys
    SELECT
        row_number() OVER (), w.tenant_id, w.dossier_id,
        CASE WHEN NOT w.lives THEN NULL WHEN w.type = ANY (CAST(:settings_types AS text[])) THEN w.type ELSE '*' END,
        m.as_of, m.as_of + interval '60 minutes', m.as_of - 365 * interval '24 hours',
        m.as_of - 90 * interval '24 hours', m.today, m.midnight, w.stale, w.retyped, w.engagements, w.commitments
    FROM wanted AS w
    JOIN moment AS m ON m.tenant_id = w.tenant_id
    RETURNING settings_type IS NULL AS gone
)
SELECT count(*) AS dossiers, count(*) FILTER (WHERE c.gone) AS gone FROM chosen AS c
