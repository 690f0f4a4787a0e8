-- The spans of days of the chunk, each with its values and with what happened on its first day.
-- Grain: one row of a working table per dossier and run of days of one month that are alike. Running sums over the steps;
-- the formula is dossiers.health, as of the end of the day in the zone of the tenant.
WITH running AS (
    SELECT s.ordinal, s.day,
        sum(s.in_year) OVER w AS in_year, sum(s.in_quarter) OVER w AS in_quarter, max(s.latest) OVER w AS latest,
        sum(s.total) OVER w AS total, sum(s.active) OVER w AS active, sum(s.fulfilled) OVER w AS fulfilled,
        sum(s.overdue) OVER w AS overdue, sum(s.upcoming) OVER w AS upcoming,
        s.engagements_added, s.engagements_aged, s.commitments_overdue, s.commitments_no_longer_overdue,
        s.commitments_fulfilled, s.commitments_reopened, s.commitments_added, s.commitments_gone
    FROM snapshot_steps AS s
    WINDOW w AS (PARTITION BY s.ordinal ORDER BY s.day)
),
valued AS (
    SELECT r.*, k.from_day, k.last_day, k.born, f.*, d.day_end, (
        r.in_year, r.in_quarter, r.latest, f.frequency, r.total, r.active, r.overdue, r.fulfilled, r.upcoming, f.rate,
        f.recency, f.overall, f.band, f.reason
    ) AS shown
    FROM running AS r
    JOIN snapshot_scope AS k ON k.ordinal = r.ordinal
    LEFT JOIN dossiers.health_settings AS s
        ON s.tenant_id = k.tenant_id AND s.version = :version AND s.dossier_type = k.settings_type
    CROSS JOIN LATERAL (SELECT dossiers.day_end(r.day, k.timezone) AS day_end OFFSET '0') AS d
    CROSS JOIN LATERAL dossiers.health(
        CAST(r.in_year AS bigint), CAST(r.total AS bigint), CAST(r.fulfilled AS bigint), r.latest, d.day_end, s
    ) AS f
    OFFSET '0'
),
compared AS (
    SELECT v.*, lag(v.shown) OVER w AS shown_before, lag(v.overall) OVER w AS overall_before,
        lag(v.recency) OVER w AS recency_before, lag(v.latest) OVER w AS latest_before
    FROM valued AS v
    WINDOW w AS (PARTITION BY v.ordinal ORDER BY v.day)
),
told AS (
    SELECT c.*, CASE WHEN c.born AND c.day = c.from_day THEN NULL ELSE c.overall_before END AS previous_score,
        CASE WHEN c.born AND c.day = c.from_day THEN NULL ELSE (
            SELECT jsonb_agg(jsonb_build_object(
                'factor', x.factor, 'count', x.amount, 'text', x.said, 'records', to_jsonb(coalesce(x.records, '{}'))
            ) ORDER BY x.place)
            FROM (
                SELECT y.place, y.factor, cardinality(y.ids) AS amount, concat(
                        cardinality(y.ids), ' ', CASE WHEN cardinality(y.ids) = 1 THEN y.one ELSE y.many END
                    ) AS said,
                    ARRAY(SELECT i.id FROM unnest(y.ids) AS i (id) ORDER BY i.id LIMIT 20) AS records
                FROM (VALUES
                    (1, 'commitments_overdue', c.commitments_overdue,
                        'commitment became overdue', 'commitments became overdue'),
                    (2, 'commitments_no_longer_overdue', c.commitments_no_longer_overdue,
                        'commitment is no longer overdue', 'commitments are no longer overdue'),
                    (3, 'commitments_fulfilled', c.commitments_fulfilled,
                        'commitment was fulfilled', 'commitments were fulfilled'),
                    (4, 'commitments_reopened', c.commitments_reopened,
                        'commitment is no longer fulfilled', 'commitments are no longer fulfilled'),
                    (5, 'commitments_added', c.commitments_added,
                        'commitment was added', 'commitments were added'),
                    (6, 'commitments_gone', c.commitments_gone,
                        'commitment was cancelled or removed', 'commitments were cancelled or removed'),
                    (7, 'engagements_added', c.engagements_added,
                        'engagement was added', 'engagements were added'),
                    (9, 'engagements_aged', c.engagements_aged,
                        'engagement is more than 365 days ago now', 'engagements are more than 365 days ago now')
                ) AS y (place, factor, ids, one, many)
                WHERE y.ids IS NOT NULL
                UNION ALL
                SELECT 10, 'recency', 1,
                    CASE WHEN c.latest_before IS NULL THEN concat('the first engagement is ', n.days, ' day',
                            CASE WHEN n.days = 1 THEN '' ELSE 's' END, ' ago')
                        ELSE concat('the latest engagement is ', n.days, ' day',
                            CASE WHEN n.days = 1 THEN '' ELSE 's' END, ' ago, was ', n.days_before) END,
                    NULL
                FROM (
                    SELECT floor(extract(epoch FROM c.day_end - c.latest) / 86400) AS days,
                        floor(extract(epoch FROM c.day_end - interval '24 hours' - c.latest_before) / 86400) AS days_before
                ) AS n
                WHERE c.recency <> c.recency_before
            ) AS x
        ) END AS factors
    FROM compared AS c
    WHERE c.day >= c.from_day AND (
        c.day = c.from_day OR extract(day FROM c.day) = 1 OR c.shown IS DISTINCT FROM c.shown_before
        OR num_nonnulls(
            c.engagements_added, c.engagements_aged, c.commitments_overdue, c.commitments_no_longer_overdue,
            c.commitments_fulfilled, c.commitments_reopened, c.commitments_added, c.commitments_gone
        ) > 0
    )
)
SELECT k.tenant_id, k.dossier_id, CAST(date_trunc('month', CAST(t.day AS timestamp)) AS date) AS month,
    t.day AS first_day, lead(t.day, 1, t.last_day + 1) OVER (PARTITION BY t.ordinal ORDER BY t.day) - 1 AS last_day,
    CAST(t.in_year AS integer) AS total_engagements_365d, CAST(t.in_quarter AS integer) AS recent_engagements_90d,
    t.latest AS latest_engagement_date, CAST(t.frequency AS numeric(5, 2)) AS engagement_frequency_score,
    CAST(t.total AS integer) AS total_commitments, CAST(t.active AS integer) AS active_commitments,
    CAST(t.overdue AS integer) AS overdue_commitments, CAST(t.fulfilled AS integer) AS fulfilled_commitments,
    CAST(t.upcoming AS integer) AS upcoming_commitments, CAST(t.rate AS integer) AS fulfillment_rate, t.recency,
    CAST(t.overall AS integer) AS overall_score, t.band, t.reason AS insufficient_reason,
    CAST(t.previous_score AS integer) AS previous_score, coalesce(t.factors, '[]') AS factors,
    CAST(:version AS text) AS settings_version
FROM told AS t
JOIN snapshot_scope AS k ON k.ordinal = t.ordinal
