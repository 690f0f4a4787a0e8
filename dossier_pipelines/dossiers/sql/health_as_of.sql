-- All statistics and the score of each dossier in refresh_keys, as of its moment: the one definition of every
-- statistic; the formula is dossiers.health (schema/health.sql).
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
    SELECT s.ordinal,
        count(*) FILTER (WHERE s.status <> 'cancelled') AS total,
        count(*) FILTER (WHERE s.status IN ('pending', 'in_progress')) AS active,
        count(*) FILTER (WHERE s.status IN ('pending', 'in_progress', 'overdue') AND s.due_date < s.today) AS overdue,
        count(*) FILTER (WHERE s.status = 'completed') AS fulfilled,
        count(*) FILTER (
            WHERE s.status IN ('pending', 'in_progress', 'overdue') AND s.due_date BETWEEN s.today AND s.today + 30
        ) AS upcoming,
        least(
            min(s.midnight) FILTER (
                WHERE s.status IN ('pending', 'in_progress', 'overdue') AND s.due_date IN (s.today, s.today + 31)
            ),
            min(s.changes_at)
        ) AS changes_at
    FROM (
        SELECT k.ordinal, k.today, k.midnight, c.due_date, c.status, CAST(NULL AS timestamptz) AS changes_at
        FROM refresh_keys AS k
        JOIN raw.commitments AS c ON c.tenant_id = k.tenant_id AND c.dossier_id = k.dossier_id
        WHERE coalesce(c.status_since <= k.as_of, true)
        UNION ALL
        -- For a moment before the present status its history tells what it was, null before it began to exist, and when
        -- that changes next. In a branch of its own: with it several processes could not share the first.
        SELECT k.ordinal, k.today, k.midnight, c.due_date, (
                SELECT h.status FROM dossiers.commitment_history AS h
                WHERE h.tenant_id = c.tenant_id AND h.commitment_id = c.id AND coalesce(h.valid_from <= k.as_of, true)
                    AND coalesce(c.created_at <= k.as_of, true)
                ORDER BY h.ordinal DESC LIMIT 1
            ), (
                SELECT min(h.valid_from) FROM dossiers.commitment_history AS h
                WHERE h.tenant_id = c.tenant_id AND h.commitment_id = c.id AND h.valid_from > k.as_of
            )
        FROM refresh_keys AS k
        JOIN raw.commitments AS c ON c.tenant_id = k.tenant_id AND c.dossier_id = k.dossier_id
        WHERE c.status_since > k.as_of
    ) AS s
    GROUP BY s.ordinal
),
statistic AS (
    SELECT k.*,
        coalesce(e.in_year, 0) AS in_year, coalesce(e.in_quarter, 0) AS in_quarter, l.latest,
        coalesce(c.total, 0) AS total, coalesce(c.active, 0) AS active, coalesce(c.overdue, 0) AS overdue,
        coalesce(c.fulfilled, 0) AS fulfilled, coalesce(c.upcoming, 0) AS upcoming,
        least(k.expires_at, e.changes_at, c.changes_at) AS changes_at,
        s.weight_engagement, s.weight_commitment, s.weight_recency, s.yearly_target, s.min_engagements,
        s.min_commitments, s.fresh_days, s.recent_days, s.distant_days, s.fresh_points, s.recent_points,
        s.distant_points, s.silent_points, s.excellent_from, s.good_from, s.fair_from
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
    -- A dossier that is gone has none.
    WHERE k.settings_type IS NOT NULL
    -- Without a fence each use of a value below would compute it again.
    OFFSET '0'
)
SELECT
    t.tenant_id, t.dossier_id,
    CAST(t.in_year AS integer) AS total_engagements_365d, CAST(t.in_quarter AS integer) AS recent_engagements_90d,
    t.latest AS latest_engagement_date, CAST(f.frequency AS numeric(5, 2)) AS engagement_frequency_score,
    CAST(t.total AS integer) AS total_commitments, CAST(t.active AS integer) AS active_commitments,
    CAST(t.overdue AS integer) AS overdue_commitments, CAST(t.fulfilled AS integer) AS fulfilled_commitments,
    CAST(t.upcoming AS integer) AS upcoming_commitments, CAST(f.rate AS integer) AS fulfillment_rate,
    f.recency, CAST(f.overall AS integer) AS overall_score, f.band, f.reason AS insufficient_reason,
    least(t.changes_at, f.next_step) AS stale_at,
    t.as_of, t.today, t.stale, t.year_start, t.retyped, t.engagements_before, t.commitments_before
FROM statistic AS t
CROSS JOIN LATERAL dossiers.health(
    t.in_year, t.total, t.fulfilled, t.latest, t.as_of,
    t.weight_engagement, t.weight_commitment, t.weight_recency, t.yearly_target, t.min_engagements, t.min_commitments,
    t.fresh_days, t.recent_days, t.distant_days, t.fresh_points, t.recent_points, t.distant_points, t.silent_points,
    t.excellent_from, t.good_from, t.fair_from
) AS f
