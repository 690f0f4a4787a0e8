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

-- History: one row per dossier and day of which there is a snapshot. A condition on the day finds its year's spans, one
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
    ON d.tenant_id = s.tenant_id AND d.year = s.year AND d.day BETWEEN s.first_day AND s.last_day;

-- How the scores of a group went: one row per tenant, grouping (all, region, bloc, classification, type), value and month,
-- as of the last day of the month of which there is a snapshot.
CREATE OR REPLACE VIEW dossiers.health_trend_by_group WITH (security_invoker = true) AS
SELECT
    e.tenant_id, g.grouping, coalesce(g.value, 'not given') AS value, e.day,
    count(*) AS dossiers, count(s.overall_score) AS scored, round(avg(s.overall_score), 2) AS average_score,
    count(*) FILTER (WHERE s.band = 'excellent') AS excellent,
    count(*) FILTER (WHERE s.band = 'good') AS good,
    count(*) FILTER (WHERE s.band = 'fair') AS fair,
    count(*) FILTER (WHERE s.band = 'poor') AS poor,
    count(*) FILTER (WHERE s.band = 'insufficient_data') AS insufficient_data
FROM (
    SELECT d.tenant_id, d.year, max(d.day) AS day FROM dossiers.snapshot_days AS d
    GROUP BY d.tenant_id, d.year, extract(month FROM d.day)
) AS e
JOIN dossiers.snapshot_spans AS s
    ON s.tenant_id = e.tenant_id AND s.year = e.year AND e.day BETWEEN s.first_day AND s.last_day
JOIN raw.dossiers AS r ON r.tenant_id = s.tenant_id AND r.id = s.dossier_id
CROSS JOIN LATERAL (VALUES
    ('all', 'all'), ('region', r.region), ('bloc', r.bloc), ('classification', r.classification), ('type', r.type)
) AS g (grouping, value)
GROUP BY e.tenant_id, g.grouping, coalesce(g.value, 'not given'), e.day;

-- How long each dossier was in each band: one row per dossier and band; a month counts for the band at its last day of
-- which there is a snapshot.
CREATE OR REPLACE VIEW dossiers.months_in_band WITH (security_invoker = true) AS
SELECT s.tenant_id, s.dossier_id, s.band,
    count(*) FILTER (WHERE d.ends_month) AS months, count(*) AS days
FROM dossiers.snapshot_spans AS s
JOIN (
    SELECT x.tenant_id, x.year, x.day,
        x.day = max(x.day) OVER (PARTITION BY x.tenant_id, x.year, extract(month FROM x.day)) AS ends_month
    FROM dossiers.snapshot_days AS x
) AS d ON d.tenant_id = s.tenant_id AND d.year = s.year AND d.day BETWEEN s.first_day AND s.last_day
GROUP BY s.tenant_id, s.dossier_id, s.band;

-- Whose score moved most between the ends of two days, and what happened in between, each kind of factor added up.
-- Grain: one row per dossier that had a score on both days, the biggest move first.
CREATE OR REPLACE FUNCTION dossiers.score_movers(from_day date, to_day date)
RETURNS TABLE (
    tenant_id text, dossier_id uuid, name text, score_was integer, score_is integer, change integer, factors jsonb
) LANGUAGE sql STABLE AS $$
    SELECT a.tenant_id, a.dossier_id, d.name, a.overall_score, b.overall_score, b.overall_score - a.overall_score, f.factors
    FROM dossiers.daily_snapshots AS a
    JOIN dossiers.daily_snapshots AS b ON b.tenant_id = a.tenant_id AND b.dossier_id = a.dossier_id AND b.day = to_day
    JOIN raw.dossiers AS d ON d.tenant_id = a.tenant_id AND d.id = a.dossier_id
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(x.factor, x.amount), '{}') AS factors
        FROM (
            SELECT i.factor, sum(i.count) AS amount
            FROM dossiers.snapshot_spans AS s
            CROSS JOIN LATERAL jsonb_to_recordset(s.factors) AS i (factor text, count integer)
            WHERE s.tenant_id = a.tenant_id AND s.dossier_id = a.dossier_id
                AND s.year BETWEEN date_trunc('year', CAST(from_day AS timestamp)) AND CAST(to_day AS timestamp)
                AND s.first_day > from_day AND s.first_day <= to_day
            GROUP BY i.factor
        ) AS x
    ) AS f
    WHERE a.day = from_day AND a.overall_score <> b.overall_score
    ORDER BY abs(b.overall_score - a.overall_score) DESC, d.name, a.dossier_id
$$;
