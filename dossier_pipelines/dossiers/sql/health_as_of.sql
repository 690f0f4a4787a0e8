-- All statistics and the score of each dossier in refresh_keys, as of its moment: the one definition of the formula.
-- Grain: one row of refreshed per key, a working table like refresh_keys. Engagements come from
-- engagements_dossier_occurred_idx alone, commitments by commitments_dossier_idx; for a full refresh the planner may
-- read both tables once instead.
-- stale_at is expires_at, 60 minutes after as_of, or, if earlier, the moment at which time alone changes a statistic:
-- an engagement leaves a window just after its 90 or 365 days (windows include both ends) or begins to exist, recency
-- loses a step at the start of a further whole day, a due date passes or comes within 30 days at midnight in the
-- tenant's zone, a commitment begins to exist or ends. Only what happens before expires_at matters.
WITH engagement AS (
    SELECT k.ordinal,
        count(*) FILTER (WHERE e.occurred_at <= k.as_of) AS in_year,
        count(*) FILTER (WHERE e.occurred_at BETWEEN k.quarter_start AND k.as_of) AS in_quarter,
        max(e.occurred_at) FILTER (WHERE e.occurred_at <= k.as_of) AS latest,
        least(
            min(e.occurred_at) FILTER (WHERE e.occurred_at < k.year_start + interval '60 minutes')
                + 365 * interval '24 hours' + interval '1 microsecond',
            min(e.occurred_at) FILTER (
                WHERE e.occurred_at BETWEEN k.quarter_start AND k.quarter_start + interval '60 minutes'
            ) + 90 * interval '24 hours' + interval '1 microsecond',
            min(e.occurred_at) FILTER (WHERE e.occurred_at > k.as_of)
        ) AS changes_at
    FROM refresh_keys AS k
    JOIN raw.engagements AS e ON e.tenant_id = k.tenant_id AND e.dossier_id = k.dossier_id
        AND e.occurred_at >= k.year_start
    GROUP BY k.ordinal
),
commitment AS (
    SELECT k.ordinal,
        count(*) FILTER (WHERE s.state <> 'cancelled') AS total,
        count(*) FILTER (WHERE s.state = 'open' AND c.status <> 'overdue') AS active,
        count(*) FILTER (WHERE s.state = 'open' AND c.due_date < k.today) AS overdue,
        count(*) FILTER (WHERE s.state = 'completed') AS fulfilled,
        count(*) FILTER (WHERE s.state = 'open' AND c.due_date BETWEEN k.today AND k.today + 30) AS upcoming,
        least(
            min(k.midnight) FILTER (WHERE s.state = 'open' AND c.due_date IN (k.today, k.today + 31)),
            min(c.completed_at) FILTER (WHERE c.status = 'completed' AND c.completed_at > k.as_of),
            min(c.cancelled_at) FILTER (WHERE c.status = 'cancelled' AND c.cancelled_at > k.as_of),
            min(c.created_at) FILTER (WHERE c.created_at > k.as_of)
        ) AS changes_at
    FROM refresh_keys AS k
    JOIN raw.commitments AS c ON c.tenant_id = k.tenant_id AND c.dossier_id = k.dossier_id
    CROSS JOIN LATERAL (
        -- What it is at the moment; null before it begins to exist.
        SELECT CASE WHEN c.created_at > k.as_of THEN NULL
            WHEN c.status = 'completed' AND coalesce(c.completed_at <= k.as_of, true) THEN 'completed'
            WHEN c.status = 'cancelled' AND coalesce(c.cancelled_at <= k.as_of, true) THEN 'cancelled'
            ELSE 'open' END AS state
    ) AS s
    GROUP BY k.ordinal
),
statistic AS (
    SELECT k.*,
        coalesce(e.in_year, 0) AS in_year, coalesce(e.in_quarter, 0) AS in_quarter, l.latest,
        least(100, round(CAST(100 * coalesce(e.in_year, 0) AS numeric) / s.yearly_target, 2)) AS frequency,
        coalesce(c.total, 0) AS total, coalesce(c.active, 0) AS active, coalesce(c.overdue, 0) AS overdue,
        coalesce(c.fulfilled, 0) AS fulfilled, coalesce(c.upcoming, 0) AS upcoming,
        CASE WHEN coalesce(c.total, 0) = 0 THEN 100 ELSE round(CAST(100 * c.fulfilled AS numeric) / c.total) END AS rate,
        r.recency,
        least(k.expires_at, e.changes_at, c.changes_at, r.next_step) AS stale_at,
        s.weight_engagement, s.weight_commitment, s.weight_recency, s.min_engagements, s.min_commitments,
        s.excellent_from, s.good_from, s.fair_from
    FROM refresh_keys AS k
    -- Every key has its settings, registered in this transaction. An inner join would let the planner expect few rows
    -- from a table without statistics, and then join the aggregates in nested loops: 16 s instead of 0.3 s, once.
    LEFT JOIN dossiers.health_settings AS s
        ON s.tenant_id = k.tenant_id AND s.version = :version AND s.dossier_type = k.settings_type
    LEFT JOIN engagement AS e ON e.ordinal = k.ordinal
    LEFT JOIN commitment AS c ON c.ordinal = k.ordinal
    CROSS JOIN LATERAL (
        -- The newest engagement may be older than a year: one probe of the index for the dossiers without a newer one.
        SELECT CASE WHEN e.latest IS NOT NULL THEN e.latest ELSE (
            SELECT max(o.occurred_at) FROM raw.engagements AS o
            WHERE o.tenant_id = k.tenant_id AND o.dossier_id = k.dossier_id AND o.occurred_at < k.year_start
        ) END AS latest
        OFFSET '0'
    ) AS l
    -- Elapsed whole days are at most n exactly while less than n + 1 days have passed.
    CROSS JOIN LATERAL (
        SELECT l.latest + (s.fresh_days + 1) * interval '24 hours' AS fresh_until,
            l.latest + (s.recent_days + 1) * interval '24 hours' AS recent_until,
            l.latest + (s.distant_days + 1) * interval '24 hours' AS distant_until
    ) AS u
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN k.as_of < u.fresh_until THEN s.fresh_points
                WHEN k.as_of < u.recent_until THEN s.recent_points
                WHEN k.as_of < u.distant_until THEN s.distant_points
                ELSE s.silent_points END AS recency,
            CASE WHEN k.as_of < u.fresh_until THEN u.fresh_until
                WHEN k.as_of < u.recent_until THEN u.recent_until
                WHEN k.as_of < u.distant_until THEN u.distant_until END AS next_step
    ) AS r
    -- A dossier that is gone has none.
    WHERE k.settings_type IS NOT NULL
    -- Without a fence each use of a value below would compute it again.
    OFFSET '0'
),
scored AS (
    SELECT t.*,
        CASE WHEN t.in_year >= t.min_engagements AND t.total >= t.min_commitments THEN
            round(t.weight_engagement * t.frequency + t.weight_commitment * t.rate + t.weight_recency * t.recency)
        END AS overall
    FROM statistic AS t
    OFFSET '0'
)
SELECT
    tenant_id, dossier_id,
    CAST(in_year AS integer) AS total_engagements_365d, CAST(in_quarter AS integer) AS recent_engagements_90d,
    latest AS latest_engagement_date, CAST(frequency AS numeric(5, 2)) AS engagement_frequency_score,
    CAST(total AS integer) AS total_commitments, CAST(active AS integer) AS active_commitments,
    CAST(overdue AS integer) AS overdue_commitments, CAST(fulfilled AS integer) AS fulfilled_commitments,
    CAST(upcoming AS integer) AS upcoming_commitments, CAST(rate AS integer) AS fulfillment_rate,
    recency, CAST(overall AS integer) AS overall_score,
    CASE WHEN overall IS NULL THEN 'insufficient_data'
        WHEN overall >= excellent_from THEN 'excellent'
        WHEN overall >= good_from THEN 'good'
        WHEN overall >= fair_from THEN 'fair'
        ELSE 'poor' END AS band,
    CASE WHEN overall IS NULL THEN concat_ws('; ',
        CASE WHEN in_year < min_engagements THEN
            format('needs %s engagement%s in 365 days, found %s', min_engagements,
                CASE WHEN min_engagements = 1 THEN '' ELSE 's' END, in_year) END,
        CASE WHEN total < min_commitments THEN
            format('needs %s commitment%s, found %s', min_commitments,
                CASE WHEN min_commitments = 1 THEN '' ELSE 's' END, total) END
    ) END AS insufficient_reason,
    stale_at, as_of, today, stale, year_start, retyped, engagements_before, commitments_before
FROM scored
