-- What an analyst queries. Grain of dossier_overview: one row per dossier; of health_by_group: one row per tenant,
-- grouping (region, bloc, classification, type) and value. Look-ups by dossier id use the primary keys.
CREATE OR REPLACE VIEW dossiers.dossier_overview WITH (security_invoker = true) AS
SELECT
    d.tenant_id, d.id AS dossier_id, d.source_key, d.name, d.type, d.region, d.bloc, d.classification, d.owner_id,
    e.total_engagements_365d, e.recent_engagements_90d, e.latest_engagement_date, e.engagement_frequency_score,
    c.total_commitments, c.active_commitments, c.overdue_commitments, c.fulfilled_commitments,
    c.upcoming_commitments, c.fulfillment_rate,
    s.recency, s.overall_score, s.band, s.insufficient_reason, s.previous_score,
    s.overall_score - s.previous_score AS score_change, s.changed_at, s.factors,
    s.as_of, s.calculated_at, s.settings_version,
    -- Where the tenant's clock stands still a score does not age.
    floor(extract(epoch FROM CASE WHEN t.clock_at IS NULL THEN greatest(now(), s.calculated_at) - s.calculated_at
        ELSE t.clock_at - s.as_of END) / 60)::integer AS score_age_minutes,
    (SELECT count(*) FROM raw.documents AS f WHERE f.tenant_id = d.tenant_id AND f.dossier_id = d.id) AS document_count
FROM raw.dossiers AS d
JOIN platform.tenants AS t ON t.tenant_id = d.tenant_id
LEFT JOIN dossiers.engagement_stats AS e ON e.tenant_id = d.tenant_id AND e.dossier_id = d.id
LEFT JOIN dossiers.commitment_stats AS c ON c.tenant_id = d.tenant_id AND c.dossier_id = d.id
LEFT JOIN dossiers.health_scores AS s ON s.tenant_id = d.tenant_id AND s.dossier_id = d.id;

CREATE OR REPLACE VIEW dossiers.health_by_group WITH (security_invoker = true) AS
SELECT
    d.tenant_id, g.grouping, coalesce(g.value, 'not given') AS value,
    count(*) AS dossiers,
    round(avg(s.overall_score), 2) AS average_score,
    count(*) FILTER (WHERE s.band = 'excellent') AS excellent,
    count(*) FILTER (WHERE s.band = 'good') AS good,
    count(*) FILTER (WHERE s.band = 'fair') AS fair,
    count(*) FILTER (WHERE s.band = 'poor') AS poor,
    count(*) FILTER (WHERE s.band = 'insufficient_data') AS insufficient_data
FROM raw.dossiers AS d
LEFT JOIN dossiers.health_scores AS s ON s.tenant_id = d.tenant_id AND s.dossier_id = d.id
CROSS JOIN LATERAL (VALUES
    ('region', d.region), ('bloc', d.bloc), ('classification', d.classification), ('type', d.type)
) AS g (grouping, value)
GROUP BY d.tenant_id, g.grouping, coalesce(g.value, 'not given');

-- History: one row per dossier and day of which there is a snapshot. A condition on the day finds its month's spans, one
-- on the dossier its own. previous_score is that of the day before, and factors is what happened on the day.
CREATE OR REPLACE VIEW dossiers.daily_snapshots WITH (security_invoker = true) AS
SELECT
    s.tenant_id, s.dossier_id, d.day,
    s.total_engagements_365d, s.recent_engagements_90d, s.latest_engagement_date, s.engagement_frequency_score,
    s.total_commitments, s.active_commitments, s.overdue_commitments, s.fulfilled_commitments,
    s.upcoming_commitments, s.fulfillment_rate, s.recency, s.overall_score, s.band, s.insufficient_reason,
    CASE WHEN d.day = s.first_day THEN s.previous_score ELSE s.overall_score END AS previous_score,
    CASE WHEN d.day = s.first_day THEN s.overall_score - s.previous_score
        WHEN s.overall_score IS NOT NULL THEN 0 END AS score_change,
    CASE WHEN d.day = s.first_day THEN s.factors ELSE '[]' END AS factors,
    s.settings_version
FROM dossiers.snapshot_spans AS s
JOIN dossiers.snapshot_days AS d
    ON d.tenant_id = s.tenant_id AND d.month = s.month AND d.day BETWEEN s.first_day AND s.last_day;
