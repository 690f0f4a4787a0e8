-- Tell of relationships that a refresh found in trouble: a score that fell below :good, or no engagement for
-- :silent_days. Each trouble is told once; a drop is over when the score is back at :recovered, a few points above the
-- line, so that one that wavers does not nag; a silence is over when there is contact again.
-- Grain: one row per alert that is raised. Reads the refreshed dossiers; relationship_alerts_open_idx keeps an alert
-- from being raised twice. A refresh of an earlier moment is a look back, which tells nobody of a drop.
WITH found AS MATERIALIZED (
    SELECT r.tenant_id, r.dossier_id, r.as_of, r.overall_score, h.previous_score, r.latest_engagement_date, h.factors,
        coalesce(h.changed_at = r.as_of AND h.previous_score >= :good AND r.overall_score < :good
            AND NOT h.factors @> '[{"factor": "earlier_moment"}]', false) AS dropped,
        coalesce(r.as_of >= coalesce(r.latest_engagement_date, d.created_at) + :silent_days * interval '24 hours',
            false) AS silent,
        d.name, d.owner_id
    FROM refreshed AS r
    JOIN dossiers.health_scores AS h ON h.tenant_id = r.tenant_id AND h.dossier_id = r.dossier_id
    JOIN raw.dossiers AS d ON d.tenant_id = r.tenant_id AND d.id = r.dossier_id
),
cleared AS (
    UPDATE dossiers.relationship_alerts AS a SET cleared_at = f.as_of
    FROM found AS f
    WHERE a.tenant_id = f.tenant_id AND a.dossier_id = f.dossier_id AND a.cleared_at IS NULL AND f.as_of >= a.raised_at
        AND CASE a.kind WHEN 'health_drop' THEN f.overall_score >= :recovered ELSE NOT f.silent END
),
-- No other refresh runs at the same time, so that what is not open here will be raised. LIMIT makes it a probe of the
-- index: how many troubles there are, the planner cannot know, and nothing is joined with them.
fresh AS MATERIALIZED (
    SELECT f.*, k.kind, gen_random_uuid() AS id
    FROM found AS f
    CROSS JOIN LATERAL (VALUES ('health_drop', f.dropped), ('silence', f.silent)) AS k (kind, holds)
    LEFT JOIN LATERAL (
        SELECT o.id FROM dossiers.relationship_alerts AS o
        WHERE o.tenant_id = f.tenant_id AND o.dossier_id = f.dossier_id AND o.kind = k.kind AND o.cleared_at IS NULL
        LIMIT 1
    ) AS a ON true
    WHERE k.holds AND a.id IS NULL
),
raised AS (
    INSERT INTO dossiers.relationship_alerts (tenant_id, id, dossier_id, kind, raised_at)
    SELECT f.tenant_id, f.id, f.dossier_id, f.kind, f.as_of FROM fresh AS f
),
said AS MATERIALIZED (
    SELECT f.tenant_id, f.dossier_id, f.as_of, f.owner_id, s.type, s.urgency, s.title, s.message, s.metadata,
        e.key, CAST(md5(e.key) AS uuid) AS event_id
    FROM fresh AS f
    CROSS JOIN LATERAL (
        SELECT coalesce(string_agg(x.factor ->> 'text', ', ' ORDER BY x.place), 'not known') AS text,
            coalesce(jsonb_agg(x.factor -> 'text' ORDER BY x.place), '[]') AS list
        FROM jsonb_array_elements(f.factors) WITH ORDINALITY AS x (factor, place)
    ) AS because
    CROSS JOIN LATERAL (
        SELECT 'health_score_dropped' AS type, 2 AS urgency,
            format('Relationship health score dropped for %s', f.name) AS title,
            format('Health score is now %s (was %s). Contributing factors: %s.', f.overall_score, f.previous_score,
                because.text) AS message,
            jsonb_build_object('dossier_id', f.dossier_id, 'new_score', f.overall_score, 'previous_score',
                f.previous_score, 'factors', because.list) AS metadata,
            CAST(f.id AS text) AS once
        WHERE f.kind = 'health_drop'
        UNION ALL
        SELECT 'relationship_at_risk', 3, format('Relationship at risk: %s', f.name),
            format('No engagement with %s %s. Recommended: plan a contact.', f.name,
                CASE WHEN f.latest_engagement_date IS NULL THEN 'since the dossier was opened'
                    ELSE format('for %s days', floor(extract(epoch FROM f.as_of - f.latest_engagement_date) / 86400))
                END),
            jsonb_build_object('dossier_id', f.dossier_id, 'latest_engagement_date', f.latest_engagement_date),
            coalesce(CAST(f.latest_engagement_date AT TIME ZONE 'UTC' AS text), 'never')
        WHERE f.kind = 'silence'
    ) AS s
    CROSS JOIN LATERAL (SELECT format('%s:%s:%s', s.type, f.dossier_id, s.once) AS key) AS e
),
happened AS (
    INSERT INTO platform.events (
        tenant_id, id, type, entity_type, entity_id, payload, occurred_at, run_id, dedupe_key
    )
    SELECT s.tenant_id, s.event_id, s.type, 'dossier', s.dossier_id, s.metadata, s.as_of, CAST(:run_id AS text), s.key
    FROM said AS s
    ON CONFLICT DO NOTHING
)
INSERT INTO notifications.notifications (
    tenant_id, user_id, kind, urgency, title, message, metadata, event_id, dedupe_key, run_id, created_at
)
SELECT s.tenant_id, s.owner_id, s.type, s.urgency, s.title, s.message, s.metadata, s.event_id,
    format('%s:%s', s.key, s.owner_id), CAST(:run_id AS text), CAST(:now AS timestamptz)
FROM said AS s
WHERE s.owner_id IS NOT NULL
ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
