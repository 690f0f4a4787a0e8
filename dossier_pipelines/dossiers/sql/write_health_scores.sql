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
        (r.engagement_frequency_score, r.fulfillment_rate, r.recency, r.overall_score, r.band, r.overdue_commitments)
            IS DISTINCT FROM
        (s.engagement_frequency, s.commitment_fulfillment, s.recency, s.overall_score, s.band, c.overdue_commitments)
            AS moved
    FROM refreshed AS r
    LEFT JOIN dossiers.health_scores AS s ON s.tenant_id = r.tenant_id AND s.dossier_id = r.dossier_id
    LEFT JOIN dossiers.engagement_stats AS e ON e.tenant_id = r.tenant_id AND e.dossier_id = r.dossier_id
    LEFT JOIN dossiers.commitment_stats AS c ON c.tenant_id = r.tenant_id AND c.dossier_id = r.dossier_id
),
-- What moved a score: its components, or its late commitments, which lower no component but are asked about first.
-- Each record is taken for what it was at the previous score (its mark says so, or else its dates) and for what it is
-- now. The statistics decide how many there are; where records cannot tell (a mark keeps 20 ids), the rest is added
-- to what is known.
explained AS (
    SELECT m.tenant_id, m.dossier_id,
        jsonb_agg(jsonb_build_object(
            'factor', x.factor, 'count', x.amount, 'text', x.said,
            'records', to_jsonb(coalesce(x.records[1:least(20, x.amount)], '{}'))
        ) ORDER BY x.place) AS factors
    FROM compared AS m
    JOIN platform.tenants AS t ON t.tenant_id = m.tenant_id
    CROSS JOIN LATERAL (
        SELECT CAST(m.old_as_of AT TIME ZONE t.timezone AS date) AS today,
            m.old_as_of - 365 * interval '24 hours' AS year_start
    ) AS o
    CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE k.late AND NOT k.was_late) - count(*) FILTER (WHERE k.was_late AND NOT k.late)
                AS net_late,
            count(*) FILTER (WHERE k.late AND NOT k.was_late) AS late,
            count(*) FILTER (WHERE k.was_late AND NOT k.late) AS late_no_more,
            array_agg(k.id ORDER BY coalesce(k.was_late, false), k.was_late IS NULL, k.due_date DESC, k.id)
                FILTER (WHERE k.late) AS late_ids,
            array_agg(k.id ORDER BY k.was_late IS NULL, k.id)
                FILTER (WHERE NOT k.late AND k.was_late IS NOT FALSE) AS late_no_more_ids,
            count(*) FILTER (WHERE k.became = 'completed' AND k.was <> 'completed') AS fulfilled,
            count(*) FILTER (WHERE k.became = 'open' AND k.was = 'completed') AS reopened,
            count(*) FILTER (WHERE k.became = 'completed') - count(*) FILTER (WHERE k.was = 'completed') AS net_fulfilled,
            array_agg(k.id ORDER BY k.completed_at DESC NULLS LAST, k.id)
                FILTER (WHERE k.became = 'completed' AND k.was <> 'completed') AS fulfilled_ids,
            array_agg(k.id ORDER BY k.id) FILTER (WHERE k.became = 'open' AND k.was = 'completed') AS reopened_ids,
            count(*) FILTER (WHERE k.counts AND NOT k.counted) AS added,
            count(*) FILTER (WHERE k.counted AND NOT k.counts) AS gone,
            array_agg(k.id ORDER BY k.id) FILTER (WHERE k.counts AND NOT k.counted) AS added_ids,
            array_agg(k.id ORDER BY k.id) FILTER (WHERE k.counted AND NOT k.counts) AS gone_ids
        FROM (
            SELECT coalesce(c.id, CAST(b.id AS uuid)) AS id, c.due_date, c.completed_at, s.was, s.became,
                s.became = 'open' AND coalesce(c.due_date < m.today, false) AS late,
                -- Not known of a rescheduled or deleted one.
                CASE WHEN s.was = 'open' AND c.id IS NOT NULL THEN coalesce(c.due_date < o.today, false)
                    WHEN s.was IN ('new', 'completed', 'cancelled') THEN false END AS was_late,
                s.became IN ('open', 'completed') AS counts,
                s.was IN ('open', 'rescheduled', 'completed') AS counted
            FROM (
                SELECT * FROM raw.commitments AS r WHERE r.tenant_id = m.tenant_id AND r.dossier_id = m.dossier_id
            ) AS c
            FULL JOIN jsonb_each_text(m.commitments_before) AS b (id, was) ON b.id = CAST(c.id AS text)
            CROSS JOIN LATERAL (
                SELECT
                    CASE WHEN b.was IS NOT NULL THEN b.was
                        WHEN c.created_at > m.old_as_of THEN 'new'
                        WHEN c.status = 'completed' AND coalesce(c.completed_at <= m.old_as_of, true) THEN 'completed'
                        WHEN c.status = 'cancelled' AND coalesce(c.cancelled_at <= m.old_as_of, true) THEN 'cancelled'
                        ELSE 'open' END AS was,
                    CASE WHEN c.id IS NULL OR c.created_at > m.as_of THEN 'nothing'
                        WHEN c.status = 'completed' AND coalesce(c.completed_at <= m.as_of, true) THEN 'completed'
                        WHEN c.status = 'cancelled' AND coalesce(c.cancelled_at <= m.as_of, true) THEN 'cancelled'
                        ELSE 'open' END AS became
            ) AS s
        ) AS k
        WHERE m.commitments_before IS NOT NULL OR (m.overdue_commitments, m.fulfilled_commitments, m.total_commitments)
            IS DISTINCT FROM (m.old_overdue, m.old_fulfilled, m.old_total)
    ) AS c
    CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE k.was = 'new' AND k.counts) AS added,
            count(*) FILTER (WHERE k.was = 'aged') AS aged,
            array_agg(k.id ORDER BY k.was = 'known', k.occurred_at DESC, k.id)
                FILTER (WHERE k.was <> 'aged' AND k.counts) AS added_ids,
            array_agg(k.id ORDER BY k.id) FILTER (WHERE k.was = 'known' AND NOT k.counts) AS removed_ids,
            array_agg(k.id ORDER BY k.occurred_at, k.id) FILTER (WHERE k.was = 'aged') AS aged_ids
        FROM (
            SELECT CAST(b.id AS uuid) AS id, b.was, e.occurred_at,
                coalesce(e.occurred_at BETWEEN m.year_start AND m.as_of, false) AS counts
            FROM jsonb_each_text(m.engagements_before) AS b (id, was)
            -- LIMIT makes it a probe of the primary key per changed record; a join would read all of them.
            LEFT JOIN LATERAL (
                SELECT r.occurred_at FROM raw.engagements AS r
                WHERE r.tenant_id = m.tenant_id AND r.id = CAST(b.id AS uuid) AND r.dossier_id = m.dossier_id
                LIMIT 1
            ) AS e ON true
            UNION ALL
            SELECT e.id, s.was, e.occurred_at, s.was = 'new'
            FROM raw.engagements AS e
            CROSS JOIN LATERAL (
                SELECT CASE WHEN e.occurred_at > m.old_as_of THEN 'new' ELSE 'aged' END AS was
            ) AS s
            WHERE e.tenant_id = m.tenant_id AND e.dossier_id = m.dossier_id
                AND (e.occurred_at BETWEEN o.year_start AND m.old_as_of AND e.occurred_at < m.year_start
                    OR e.occurred_at > m.old_as_of AND e.occurred_at BETWEEN m.year_start AND m.as_of)
                AND coalesce(NOT m.engagements_before ? CAST(e.id AS text), true)
        ) AS k
        WHERE m.engagements_before IS NOT NULL
            OR (m.total_engagements_365d, m.latest_engagement_date) IS DISTINCT FROM (m.old_in_year, m.old_latest)
    ) AS e
    CROSS JOIN LATERAL (
        SELECT m.overdue_commitments - m.old_overdue - c.net_late AS late,
            m.fulfilled_commitments - m.old_fulfilled - c.net_fulfilled AS fulfilled,
            m.total_commitments - m.old_total - (c.added - c.gone) AS commitments,
            m.total_engagements_365d - m.old_in_year - (e.added - e.aged) AS engagements,
            floor(extract(epoch FROM m.as_of - m.latest_engagement_date) / 86400) AS days,
            floor(extract(epoch FROM m.old_as_of - m.old_latest) / 86400) AS old_days
    ) AS rest
    CROSS JOIN LATERAL (
        SELECT v.place, v.factor, v.amount,
            format('%s %s', v.amount, CASE WHEN v.amount = 1 THEN v.one ELSE v.many END) AS said, v.records
        FROM (VALUES
            (1, 'commitments_overdue', c.late + greatest(0, rest.late),
                'commitment became overdue', 'commitments became overdue', c.late_ids),
            (2, 'commitments_no_longer_overdue', c.late_no_more + greatest(0, -rest.late),
                'commitment is no longer overdue', 'commitments are no longer overdue', c.late_no_more_ids),
            (3, 'commitments_fulfilled', c.fulfilled + greatest(0, rest.fulfilled),
                'commitment was fulfilled', 'commitments were fulfilled', c.fulfilled_ids),
            (4, 'commitments_reopened', c.reopened + greatest(0, least(0, rest.commitments) - rest.fulfilled),
                'commitment is no longer fulfilled', 'commitments are no longer fulfilled', c.reopened_ids),
            (5, 'commitments_added', c.added + greatest(0, rest.commitments),
                'commitment was added', 'commitments were added', c.added_ids),
            (6, 'commitments_gone', c.gone + greatest(0, -rest.commitments),
                'commitment was cancelled or removed', 'commitments were cancelled or removed', c.gone_ids),
            (7, 'engagements_added', e.added + greatest(0, rest.engagements),
                'engagement was added', 'engagements were added', e.added_ids),
            (8, 'engagements_removed', greatest(0, -rest.engagements),
                'engagement was removed or moved', 'engagements were removed or moved', e.removed_ids),
            (9, 'engagements_aged', e.aged,
                'engagement is more than 365 days ago now', 'engagements are more than 365 days ago now', e.aged_ids)
        ) AS v (place, factor, amount, one, many, records)
        WHERE v.amount > 0
        UNION ALL
        SELECT 10, 'recency', 1,
            CASE WHEN rest.days IS NULL THEN 'there is no engagement any more'
                WHEN rest.old_days IS NULL THEN format('the first engagement is %s day%s ago', rest.days,
                    CASE WHEN rest.days = 1 THEN '' ELSE 's' END)
                ELSE format('the latest engagement is %s day%s ago, was %s', rest.days,
                    CASE WHEN rest.days = 1 THEN '' ELSE 's' END, rest.old_days) END,
            NULL
        WHERE m.recency <> m.old_recency AND rest.days IS DISTINCT FROM rest.old_days
        UNION ALL
        SELECT 11, 'type', 1, 'the type of the dossier changed, and with it its settings', NULL WHERE m.retyped
        UNION ALL
        SELECT 12, 'settings', 1, 'the scoring settings changed', NULL WHERE m.old_version <> :version
        UNION ALL
        SELECT 13, 'earlier_moment', 1, 'the score is of an earlier moment than the one before', NULL
    ) AS x
    WHERE m.moved AND m.scored_before AND (x.factor = 'earlier_moment') = (m.as_of < m.old_as_of)
    GROUP BY m.tenant_id, m.dossier_id
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
        factors = CASE WHEN x.moved THEN coalesce(f.factors, '[]') ELSE h.factors END,
        changed_at = CASE WHEN x.moved THEN x.as_of ELSE h.changed_at END,
        settings_version = :version,
        as_of = x.as_of,
        stale_at = x.stale_at,
        calculated_at = clock_timestamp()
    FROM compared AS x
    LEFT JOIN explained AS f ON f.tenant_id = x.tenant_id AND f.dossier_id = x.dossier_id
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
    count(*), count(*) FILTER (WHERE m.differs), count(*) FILTER (WHERE d.drifted),
    coalesce((array_agg(m.dossier_id) FILTER (WHERE d.drifted))[1:20], '{}'), CAST(:run_id AS text)
FROM compared AS m
CROSS JOIN LATERAL (
    -- A mark that is here by now belongs to a change that came after the stale dossiers were chosen.
    SELECT m.differs AND NOT m.stale AND NOT EXISTS (
        SELECT FROM platform.stale_marks AS s
        WHERE s.consumer = 'dossiers.health' AND s.tenant_id = m.tenant_id AND s.dossier_id = m.dossier_id
    ) AS drifted
) AS d
GROUP BY m.tenant_id
RETURNING tenant_id, as_of, refreshed, changed, drifted
