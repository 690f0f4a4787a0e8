-- Keep the configuration that the scores are computed with, for every tenant concerned.
-- Grain: one row per tenant, version and dossier type. Uses health_settings_pkey.
INSERT INTO dossiers.health_settings (
    tenant_id, version, dossier_type, weight_engagement, weight_commitment, weight_recency, yearly_target,
    min_engagements, min_commitments, fresh_days, recent_days, distant_days, fresh_points, recent_points,
    distant_points, silent_points, excellent_from, good_from, fair_from
)
SELECT
    t.tenant_id, :version, s.dossier_type, s.weight_engagement, s.weight_commitment, s.weight_recency,
    s.yearly_target, s.min_engagements, s.min_commitments, s.fresh_days, s.recent_days, s.distant_days,
    s.fresh_points, s.recent_points, s.distant_points, s.silent_points, s.excellent_from, s.good_from, s.fair_from
FROM platform.tenants AS t
CROSS JOIN jsonb_to_recordset(CAST(:settings AS jsonb)) AS s (
    dossier_type text, weight_engagement numeric, weight_commitment numeric, weight_recency numeric,
    yearly_target integer, min_engagements integer, min_commitments integer, fresh_days integer,
    recent_days integer, distant_days integer, fresh_points integer, recent_points integer,
    distant_points integer, silent_points integer, excellent_from integer, good_from integer, fair_from integer
)
WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
ON CONFLICT (tenant_id, version, dossier_type) DO NOTHING
