-- Write the scores, each with what changed since the previous one and which records caused it, and record the
-- refresh. Runs before the statistics are written, since it compares with the stored ones.
-- Grain: one row per refreshed dossier; returns one row per tenant. Uses the primary keys of the three tables; the
-- records behind a change are only looked up for the dossiers that changed.
WITH compared AS MATERIALIZED (
    SELECT r.*,
        s.dossier_id IS NOT NULL AS scored_before,
        s.overall_score AS old_score, s.recency AS old_recency, s.as_of AS old_as_of,
        s.settings_version AS old_version, e.latest_engagement_date AS old_latest,
        c.overdue_commitments AS old_overdue, c.fulfilled_commitments AS old_fulfilled,
        c.total_commitments AS old_total, e.total_engagements_365d AS old_in_year,
        (
            r.total_engagements_365d, r.recent_engagements_90d, r.latest_engagement_date, r.engagement_frequency_score,
            r.total_commitments, r.active_commitments, r.overdue_commitments, r.fulfilled_commitments,
            r.upcoming_commitments, r.fulfillment_rate, r.recency, r.overall_score, r.band, r.insufficient_reason
        ) IS DISTINCT FROM (
            e.total_engagements_365d, e.recent_engagements_90d, e.latest_engagement_date, e.engagement_frequency_score,
            c.total_commitments, c.active_commitments, c.overdue_commitments, c.fulfilled_commitments,
            c.upcoming_commitments, c.fulfillment_rate, s.recency, s.overall_score, s.band, s.insufficient_reason
        ) AS differs,
        (r.engagement_frequency_score, r.fulfillment_rate, r.recency, r.overall_score, r.band)
            IS DISTINCT FROM
        (s.engagement_frequency, s.commitment_fulfillment, s.recency, s.overall_score, s.band) AS moved
    FROM dossiers.refreshed AS r
    LEFT JOIN dossiers.health_scores AS s ON s.tenant_id = r.tenant_id AND s.dossier_id = r.dossier_id
    LEFT JOIN dossiers.engagement_stats AS e ON e.tenant_id = r.tenant_id AND e.dossier_id = r.dossier_id
    LEFT JOIN dossiers.commitment_stats AS c ON c.tenant_id = r.tenant_id AND c.dossier_id = r.dossier_id
),
explained AS (
    SELECT
        m.*, coalesce(f.factors, CAST('[]' AS jsonb)) AS factors
    FROM compared AS m
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_object(
            'factor', x.factor, 'count', x.amount, 'text', x.said, 'records', coalesce(to_jsonb(x.records), '[]')
        )) AS factors
        FROM (
            SELECT count(*) AS amount FROM raw.engagements AS e
            WHERE e.tenant_id = m.tenant_id AND e.dossier_id = m.dossier_id
                AND e.occurred_at >= m.old_as_of - 365 * interval '24 hours'
                AND e.occurred_at < m.as_of - 365 * interval '24 hours'
        ) AS w
        CROSS JOIN LATERAL (
            SELECT 'commitments_overdue' AS factor, m.overdue_commitments - m.old_overdue AS amount,
                format('%s commitment%s became overdue', m.overdue_commitments - m.old_overdue,
                    CASE WHEN m.overdue_commitments - m.old_overdue = 1 THEN '' ELSE 's' END) AS said,
                ARRAY(
                    SELECT c.id FROM raw.commitments AS c
                    WHERE c.tenant_id = m.tenant_id AND c.dossier_id = m.dossier_id
                        AND c.status NOT IN ('completed', 'cancelled') AND c.due_date < m.today
                        AND (c.due_date >= CAST(m.old_as_of AS date) - 1 OR c.id = ANY (m.commitment_ids))
                    ORDER BY c.due_date DESC, c.id LIMIT least(20, m.overdue_commitments - m.old_overdue)
                ) AS records
            WHERE m.overdue_commitments > m.old_overdue
            UNION ALL
            SELECT 'commitments_no_longer_overdue', m.old_overdue - m.overdue_commitments,
                format('%s commitment%s no longer overdue', m.old_overdue - m.overdue_commitments,
                    CASE WHEN m.old_overdue - m.overdue_commitments = 1 THEN ' is' ELSE 's are' END),
                m.commitment_ids[1:20]
            WHERE m.overdue_commitments < m.old_overdue
            UNION ALL
            SELECT 'commitments_fulfilled', m.fulfilled_commitments - m.old_fulfilled,
                format('%s commitment%s fulfilled', m.fulfilled_commitments - m.old_fulfilled,
                    CASE WHEN m.fulfilled_commitments - m.old_fulfilled = 1 THEN ' was' ELSE 's were' END),
                ARRAY(
                    SELECT c.id FROM raw.commitments AS c
                    WHERE c.tenant_id = m.tenant_id AND c.dossier_id = m.dossier_id AND c.status = 'completed'
                        AND (c.completed_at > m.old_as_of OR c.id = ANY (m.commitment_ids))
                    ORDER BY c.completed_at DESC, c.id LIMIT least(20, m.fulfilled_commitments - m.old_fulfilled)
                )
            WHERE m.fulfilled_commitments > m.old_fulfilled
            UNION ALL
            SELECT 'commitments_added', m.total_commitments - m.old_total,
                format('%s commitment%s added', m.total_commitments - m.old_total,
                    CASE WHEN m.total_commitments - m.old_total = 1 THEN ' was' ELSE 's were' END),
                m.commitment_ids[1:20]
            WHERE m.total_commitments > m.old_total
            UNION ALL
            SELECT 'commitments_gone', m.old_total - m.total_commitments,
                format('%s commitment%s cancelled or removed', m.old_total - m.total_commitments,
                    CASE WHEN m.old_total - m.total_commitments = 1 THEN ' was' ELSE 's were' END),
                m.commitment_ids[1:20]
            WHERE m.total_commitments < m.old_total
            UNION ALL
            SELECT 'engagements_added', m.total_engagements_365d - m.old_in_year + w.amount,
                format('%s engagement%s added', m.total_engagements_365d - m.old_in_year + w.amount,
                    CASE WHEN m.total_engagements_365d - m.old_in_year + w.amount = 1 THEN ' was' ELSE 's were' END),
                m.engagement_ids[1:20]
            WHERE m.total_engagements_365d - m.old_in_year + w.amount > 0
            UNION ALL
            SELECT 'engagements_removed', m.old_in_year - w.amount - m.total_engagements_365d,
                format('%s engagement%s removed or moved', m.old_in_year - w.amount - m.total_engagements_365d,
                    CASE WHEN m.old_in_year - w.amount - m.total_engagements_365d = 1 THEN ' was' ELSE 's were' END),
                m.engagement_ids[1:20]
            WHERE m.old_in_year - w.amount - m.total_engagements_365d > 0
            UNION ALL
            SELECT 'engagements_aged', w.amount,
                format('%s engagement%s more than 365 days ago now', w.amount,
                    CASE WHEN w.amount = 1 THEN ' is' ELSE 's are' END),
                ARRAY(
                    SELECT e.id FROM raw.engagements AS e
                    WHERE e.tenant_id = m.tenant_id AND e.dossier_id = m.dossier_id
                        AND e.occurred_at >= m.old_as_of - 365 * interval '24 hours'
                        AND e.occurred_at < m.as_of - 365 * interval '24 hours'
                    ORDER BY e.occurred_at, e.id LIMIT 20
                )
            WHERE w.amount > 0
            UNION ALL
            SELECT 'recency', 1,
                format('the latest engagement is %s days ago, was %s',
                    coalesce(CAST(floor(extract(epoch FROM m.as_of - m.latest_engagement_date) / 86400) AS text), 'no'),
                    coalesce(CAST(floor(extract(epoch FROM m.old_as_of - m.old_latest) / 86400) AS text), 'none')),
                CAST(NULL AS uuid[])
            WHERE m.recency <> m.old_recency
            UNION ALL
            SELECT 'settings', 1, 'the scoring settings changed', CAST(NULL AS uuid[])
            WHERE m.old_version <> :version
        ) AS x
        WHERE m.moved AND m.scored_before
    ) AS f ON true
),
-- Rows that are there are updated by a join, at half the price of ON CONFLICT for every one.
updated AS (
    UPDATE dossiers.health_scores AS h SET
        engagement_frequency = x.engagement_frequency_score,
        commitment_fulfillment = x.fulfillment_rate,
        recency = x.recency,
        overall_score = x.overall_score,
        band = x.band,
        insufficient_reason = x.insufficient_reason,
        previous_score = CASE WHEN x.moved THEN x.old_score ELSE h.previous_score END,
        factors = CASE WHEN x.moved THEN x.factors ELSE h.factors END,
        changed_at = CASE WHEN x.moved THEN x.as_of ELSE h.changed_at END,
        settings_version = :version,
        as_of = x.as_of,
        stale_at = x.stale_at,
        calculated_at = clock_timestamp()
    FROM explained AS x
    WHERE x.scored_before AND h.tenant_id = x.tenant_id AND h.dossier_id = x.dossier_id
),
inserted AS (
    INSERT INTO dossiers.health_scores (
        tenant_id, dossier_id, engagement_frequency, commitment_fulfillment, recency, overall_score, band,
        insufficient_reason, changed_at, factors, settings_version, as_of, stale_at, calculated_at
    )
    SELECT
        m.tenant_id, m.dossier_id, m.engagement_frequency_score, m.fulfillment_rate, m.recency, m.overall_score, m.band,
        m.insufficient_reason, m.as_of, '[]', :version, m.as_of, m.stale_at, clock_timestamp()
    FROM compared AS m
    WHERE NOT m.scored_before
)
INSERT INTO dossiers.health_refreshes (
    tenant_id, mode, as_of, settings_version, refreshed, changed, drifted, drifted_dossiers, run_id
)
SELECT m.tenant_id, CASE WHEN CAST(:full AS boolean) THEN 'full' ELSE 'incremental' END, min(m.as_of), :version,
    count(*), count(*) FILTER (WHERE m.differs), count(*) FILTER (WHERE m.differs AND NOT m.stale),
    coalesce((array_agg(m.dossier_id) FILTER (WHERE m.differs AND NOT m.stale))[1:20], '{}'), CAST(:run_id AS text)
FROM compared AS m
GROUP BY m.tenant_id
RETURNING tenant_id, as_of, refreshed, changed, drifted
