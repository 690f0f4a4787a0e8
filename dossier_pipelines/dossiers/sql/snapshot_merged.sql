-- The chunk's spans together with what is left of the stored ones around them, neighbours that are alike made one: what
-- is stored depends on the records alone, not on the ranges in which it was computed.
-- Grain: one row of a working table per span, as it is to be stored.
WITH pieces AS (
    SELECT n.* FROM snapshot_new AS n
    UNION ALL
    SELECT t.tenant_id, t.dossier_id, t.year, t.first_day, least(t.last_day, t.range_first - 1),
        t.total_engagements_365d, t.recent_engagements_90d, t.latest_engagement_date, t.engagement_frequency_score,
        t.total_commitments, t.active_commitments, t.overdue_commitments, t.fulfilled_commitments,
        t.upcoming_commitments, t.fulfillment_rate, t.recency, t.overall_score, t.band, t.insufficient_reason,
        t.previous_score, t.factors, t.settings_version
    FROM snapshot_touched AS t WHERE t.first_day < t.range_first
    UNION ALL
    -- Within a span nothing changes, so that a day on which it is cut has no change.
    SELECT t.tenant_id, t.dossier_id, t.year, greatest(t.first_day, t.range_last + 1), t.last_day,
        t.total_engagements_365d, t.recent_engagements_90d, t.latest_engagement_date, t.engagement_frequency_score,
        t.total_commitments, t.active_commitments, t.overdue_commitments, t.fulfilled_commitments,
        t.upcoming_commitments, t.fulfillment_rate, t.recency, t.overall_score, t.band, t.insufficient_reason,
        CASE WHEN t.first_day > t.range_last THEN t.previous_score ELSE t.overall_score END,
        CASE WHEN t.first_day > t.range_last THEN t.factors ELSE '[]' END, t.settings_version
    FROM snapshot_touched AS t WHERE t.last_day > t.range_last
),
beginning AS (
    SELECT p.*, NOT coalesce(
        lag(p.last_day) OVER w + 1 = p.first_day AND p.factors = '[]'
            AND p.previous_score IS NOT DISTINCT FROM p.overall_score
            AND lag((
                p.total_engagements_365d, p.recent_engagements_90d, p.latest_engagement_date,
                p.engagement_frequency_score, p.total_commitments, p.active_commitments, p.overdue_commitments,
                p.fulfilled_commitments, p.upcoming_commitments, p.fulfillment_rate, p.recency, p.overall_score, p.band,
                p.insufficient_reason, p.settings_version
            )) OVER w IS NOT DISTINCT FROM (
                p.total_engagements_365d, p.recent_engagements_90d, p.latest_engagement_date,
                p.engagement_frequency_score, p.total_commitments, p.active_commitments, p.overdue_commitments,
                p.fulfilled_commitments, p.upcoming_commitments, p.fulfillment_rate, p.recency, p.overall_score, p.band,
                p.insufficient_reason, p.settings_version
            ),
        false
    ) AS begins
    FROM pieces AS p
    WINDOW w AS (PARTITION BY p.tenant_id, p.dossier_id, p.year ORDER BY p.first_day)
),
numbered AS (
    SELECT b.*, count(*) FILTER (WHERE b.begins) OVER w AS span
    FROM beginning AS b
    WINDOW w AS (PARTITION BY b.tenant_id, b.dossier_id, b.year ORDER BY b.first_day)
)
SELECT s.tenant_id, s.dossier_id, s.year, s.first_day, s.span_end AS last_day,
    s.total_engagements_365d, s.recent_engagements_90d, s.latest_engagement_date, s.engagement_frequency_score,
    s.total_commitments, s.active_commitments, s.overdue_commitments, s.fulfilled_commitments, s.upcoming_commitments,
    s.fulfillment_rate, s.recency, s.overall_score, s.band, s.insufficient_reason, s.previous_score, s.factors,
    s.settings_version
FROM (
    SELECT n.*, max(n.last_day) OVER (PARTITION BY n.tenant_id, n.dossier_id, n.year, n.span) AS span_end
    FROM numbered AS n
) AS s
WHERE s.begins
