-- Write the refreshed engagement statistics; a row that says the same already is not touched.
-- Grain: one row per refreshed dossier that differs. Uses engagement_stats_pkey, or reads the table once for a full refresh.
INSERT INTO dossiers.engagement_stats AS w (tenant_id, dossier_id, total_engagements_365d, recent_engagements_90d, latest_engagement_date, engagement_frequency_score)
SELECT r.tenant_id, r.dossier_id, r.total_engagements_365d, r.recent_engagements_90d, r.latest_engagement_date, r.engagement_frequency_score
FROM refreshed AS r
LEFT JOIN dossiers.engagement_stats AS s ON s.tenant_id = r.tenant_id AND s.dossier_id = r.dossier_id
WHERE (r.total_engagements_365d, r.recent_engagements_90d, r.latest_engagement_date, r.engagement_frequency_score)
    IS DISTINCT FROM (s.total_engagements_365d, s.recent_engagements_90d, s.latest_engagement_date, s.engagement_frequency_score)
ON CONFLICT (tenant_id, dossier_id) DO UPDATE SET
    total_engagements_365d = excluded.total_engagements_365d,
    recent_engagements_90d = excluded.recent_engagements_90d,
    latest_engagement_date = excluded.latest_engagement_date,
    engagement_frequency_score = excluded.engagement_frequency_score
