-- Write the refreshed engagement statistics; a row that says the same already is not touched.
-- Grain: one row per refreshed dossier. Uses engagement_stats_pkey.
INSERT INTO dossiers.engagement_stats AS s (tenant_id, dossier_id, total_engagements_365d, recent_engagements_90d, latest_engagement_date, engagement_frequency_score)
SELECT tenant_id, dossier_id, total_engagements_365d, recent_engagements_90d, latest_engagement_date, engagement_frequency_score FROM refreshed
ON CONFLICT (tenant_id, dossier_id) DO UPDATE SET
    total_engagements_365d = excluded.total_engagements_365d,
    recent_engagements_90d = excluded.recent_engagements_90d,
    latest_engagement_date = excluded.latest_engagement_date,
    engagement_frequency_score = excluded.engagement_frequency_score
WHERE (s.total_engagements_365d, s.recent_engagements_90d, s.latest_engagement_date, s.engagement_frequency_score)
    IS DISTINCT FROM (excluded.total_engagements_365d, excluded.recent_engagements_90d, excluded.latest_engagement_date, excluded.engagement_frequency_score)
