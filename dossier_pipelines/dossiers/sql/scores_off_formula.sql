-- Scores that their own components and settings do not give, or that differ from the statistics beside them.
-- Grain: one row. Reads statistics and scores once each; settings by health_settings_pkey.
SELECT count(*) AS violations, (array_agg(s.dossier_id))[1:20] AS examples
FROM dossiers.health_scores AS s
JOIN raw.dossiers AS d ON d.tenant_id = s.tenant_id AND d.id = s.dossier_id
JOIN dossiers.engagement_stats AS e ON e.tenant_id = s.tenant_id AND e.dossier_id = s.dossier_id
JOIN dossiers.commitment_stats AS c ON c.tenant_id = s.tenant_id AND c.dossier_id = s.dossier_id
LEFT JOIN dossiers.health_settings AS own
    ON own.tenant_id = s.tenant_id AND own.version = s.settings_version AND own.dossier_type = d.type
LEFT JOIN dossiers.health_settings AS f ON f.tenant_id = s.tenant_id AND f.version = s.settings_version
    AND f.dossier_type = coalesce(own.dossier_type, '*')
WHERE (f.version IS NULL
    OR s.engagement_frequency <> e.engagement_frequency_score
    OR s.commitment_fulfillment <> c.fulfillment_rate
    OR (s.overall_score IS NULL) <> (s.insufficient_reason IS NOT NULL)
    OR (s.overall_score IS NULL)
        <> (e.total_engagements_365d < f.min_engagements OR c.total_commitments < f.min_commitments)
    OR s.overall_score <> round(
        f.weight_engagement * s.engagement_frequency + f.weight_commitment * s.commitment_fulfillment
        + f.weight_recency * s.recency)
    OR s.band <> CASE WHEN s.overall_score IS NULL THEN 'insufficient_data'
        WHEN s.overall_score >= f.excellent_from THEN 'excellent'
        WHEN s.overall_score >= f.good_from THEN 'good'
        WHEN s.overall_score >= f.fair_from THEN 'fair' ELSE 'poor' END)
    -- Another type of the dossier, and with it other settings, wait for the next refresh.
    AND NOT EXISTS (
        SELECT FROM platform.stale_marks AS m
        WHERE m.consumer = 'dossiers.health' AND m.tenant_id = s.tenant_id AND m.dossier_id = s.dossier_id
    )
