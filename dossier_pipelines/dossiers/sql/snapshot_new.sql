-- The spans of days of the chunk, each with its values and with what happened on its first day.
-- Grain: one row of a working table per dossier and run of days of one year that are alike. Running sums over the steps;
-- the formula is dossiers.health, as of the end of the day in the zone of the tenant.
WITH running AS (
    SELECT s.ordinal, s.day,
        sum(s.in_year) OVER w AS in_year, sum(s.in_quarter) OVER w AS in_quarter, max(s.latest) OVER w AS latest,
        sum(s.total) OVER w AS total, sum(s.active) OVER w AS active, sum(s.fulfilled) OVER w AS fulfilled,
        sum(s.overdue) OVER w AS overdue, sum(s.upcoming) OVER w AS upcoming
    FROM snapshot_steps AS s
    WINDOW w AS (PARTITION BY s.ordinal ORDER BY s.day)
),
valued AS (
    SELECT r.*, k.timezone, k.from_day, k.last_day, k.born, f.*, d.day_end, (
        r.in_year, r.in_quarter, r.latest, f.frequency, r.total, r.active, r.overdue, r.fulfilled, r.upcoming, f.rate,
        f.recency, f.overall, f.band, f.reason
    ) AS shown
    FROM running AS r
    JOIN snapshot_scope AS k ON k.ordinal = r.ordinal
    LEFT JOIN dossiers.health_settings AS s
        ON s.tenant_id = k.tenant_id AND s.version = :version AND s.dossier_type = k.settings_type
    CROSS JOIN LATERAL (SELECT platform.day_end(r.day, k.timezone) AS day_end OFFSET '0') AS d
    CROSS JOIN LATERAL dossiers.health(
        CAST(r.in_year AS bigint), CAST(r.total AS bigint), CAST(r.fulfilled AS bigint), r.latest, d.day_end,
        s.weight_engagement, s.weight_commitment, s.weight_recency, s.yearly_target, s.min_engagements, s.min_commitments,
        s.fresh_days, s.recent_days, s.distant_days, s.fresh_points, s.recent_points, s.distant_points, s.silent_points,
        s.excellent_from, s.good_from, s.fair_from
    ) AS f
    OFFSET '0'
),
compared AS (
    SELECT v.*, lag(v.shown) OVER w AS shown_before, lag(v.overall) OVER w AS overall_before,
        lag(v.recency) OVER w AS recency_before, lag(v.latest) OVER w AS latest_before,
        v.born AND v.day = v.from_day AS opened, f.factors AS happened
    FROM valued AS v
    LEFT JOIN snapshot_factors AS f ON f.ordinal = v.ordinal AND f.day = v.day
    WINDOW w AS (PARTITION BY v.ordinal ORDER BY v.day)
),
told AS (
    SELECT c.*, CASE WHEN NOT c.opened THEN c.overall_before END AS previous_score,
        -- On the day on which it was opened nothing changed.
        CASE WHEN c.opened THEN '[]'
            WHEN c.recency <> c.recency_before THEN coalesce(c.happened, '[]') || (
                SELECT jsonb_build_array(jsonb_build_object(
                    'factor', 'recency', 'count', 1, 'text', concat(
                        CASE WHEN c.latest_before IS NULL THEN 'the first engagement is ' ELSE 'the latest engagement is ' END,
                        n.days, ' day', CASE WHEN n.days = 1 THEN '' ELSE 's' END,
                        CASE WHEN c.latest_before IS NULL THEN ' ago' ELSE concat(' ago, was ', n.days_before) END
                    ), 'records', jsonb_build_array()
                ))
                FROM (
                    SELECT floor(extract(epoch FROM c.day_end - c.latest) / 86400) AS days,
                        floor(extract(
                            epoch FROM platform.day_end(c.day - 1, c.timezone) - c.latest_before
                        ) / 86400) AS days_before
                ) AS n
            )
            ELSE coalesce(c.happened, '[]') END AS factors
    FROM compared AS c
    WHERE c.day >= c.from_day AND (
        c.day = c.from_day OR extract(doy FROM c.day) = 1 OR c.shown IS DISTINCT FROM c.shown_before
        OR c.happened IS NOT NULL
    )
)
SELECT k.tenant_id, k.dossier_id, CAST(date_trunc('year', CAST(t.day AS timestamp)) AS date) AS year,
    t.day AS first_day, lead(t.day, 1, t.last_day + 1) OVER (PARTITION BY t.ordinal ORDER BY t.day) - 1 AS last_day,
    CAST(t.in_year AS integer) AS total_engagements_365d, CAST(t.in_quarter AS integer) AS recent_engagements_90d,
    t.latest AS latest_engagement_date, CAST(t.frequency AS numeric(5, 2)) AS engagement_frequency_score,
    CAST(t.total AS integer) AS total_commitments, CAST(t.active AS integer) AS active_commitments,
    CAST(t.overdue AS integer) AS overdue_commitments, CAST(t.fulfilled AS integer) AS fulfilled_commitments,
    CAST(t.upcoming AS integer) AS upcoming_commitments, CAST(t.rate AS integer) AS fulfillment_rate, t.recency,
    CAST(t.overall AS integer) AS overall_score, t.band, t.reason AS insufficient_reason,
    CAST(t.previous_score AS integer) AS previous_score, t.factors,
    CAST(:version AS text) AS settings_version
FROM told AS t
JOIN snapshot_scope AS k ON k.ordinal = t.ordinal
