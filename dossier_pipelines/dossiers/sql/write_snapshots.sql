-- Write the spans that are new or differ; what is stored already is not touched. Grain: one row per span. Uses
-- snapshot_spans_pkey.
INSERT INTO dossiers.snapshot_spans AS x (
    tenant_id, dossier_id, year, first_day, last_day, total_engagements_365d, recent_engagements_90d,
    latest_engagement_date, engagement_frequency_score, total_commitments, active_commitments, overdue_commitments,
    fulfilled_commitments, upcoming_commitments, fulfillment_rate, recency, overall_score, band, insufficient_reason,
    previous_score, factors, settings_version
)
SELECT m.* FROM (
    SELECT * FROM snapshot_merged
    EXCEPT
    SELECT t.tenant_id, t.dossier_id, t.year, t.first_day, t.last_day, t.total_engagements_365d,
        t.recent_engagements_90d, t.latest_engagement_date, t.engagement_frequency_score, t.total_commitments,
        t.active_commitments, t.overdue_commitments, t.fulfilled_commitments, t.upcoming_commitments,
        t.fulfillment_rate, t.recency, t.overall_score, t.band, t.insufficient_reason, t.previous_score, t.factors,
        t.settings_version
    FROM snapshot_touched AS t
) AS m
ON CONFLICT (tenant_id, dossier_id, year, first_day) DO UPDATE SET
    last_day = excluded.last_day,
    total_engagements_365d = excluded.total_engagements_365d,
    recent_engagements_90d = excluded.recent_engagements_90d,
    latest_engagement_date = excluded.latest_engagement_date,
    engagement_frequency_score = excluded.engagement_frequency_score,
    total_commitments = excluded.total_commitments,
    active_commitments = excluded.active_commitments,
    overdue_commitments = excluded.overdue_commitments,
    fulfilled_commitments = excluded.fulfilled_commitments,
    upcoming_commitments = excluded.upcoming_commitments,
    fulfillment_rate = excluded.fulfillment_rate,
    recency = excluded.recency,
    overall_score = excluded.overall_score,
    band = excluded.band,
    insufficient_reason = excluded.insufficient_reason,
    previous_score = excluded.previous_score,
    factors = excluded.factors,
    settings_version = excluded.settings_version
