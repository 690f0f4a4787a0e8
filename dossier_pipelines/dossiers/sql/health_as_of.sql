-- All statistics and the score of each dossier in refresh_keys, as of its moment: the one definition of the formula.
-- Grain: one row of refreshed per key. Engagements come from engagements_dossier_occurred_idx alone, commitments by
-- commitments_dossier_idx; for a full refresh the planner reads both tables once instead.
-- stale_at is 60 minutes after as_of or, if earlier, the moment at which time alone changes a statistic: an engagement leaves a
-- window just after its 90 or 365 days (windows include both ends) or begins to exist, recency loses a step at the
-- start of a further whole day, a due date passes or comes within 30 days at midnight in the tenant's zone, a
-- commitment begins to exist or ends.
WITH engagement AS (
    SELECT k.ordinal,
        count(*) FILTER (WHERE e.occurred_at BETWEEN k.year_start AND k.as_of) AS in_year,
        count(*) FILTER (WHERE e.occurred_at BETWEEN k.quarter_start AND k.as_of) AS in_quarter,
        max(e.occurred_at) FILTER (WHERE e.occurred_at <= k.as_of) AS latest,
        min(e.occurred_at) FILTER (WHERE e.occurred_at BETWEEN k.year_start AND k.as_of) AS oldest_in_year,
        min(e.occurred_at) FILTER (WHERE e.occurred_at BETWEEN k.quarter_start AND k.as_of) AS oldest_in_quarter,
        min(e.occurred_at) FILTER (WHERE e.occurred_at > k.as_of) AS next_to_come
    FROM refresh_keys AS k
    JOIN raw.engagements AS e ON e.tenant_id = k.tenant_id AND e.dossier_id = k.dossier_id
    GROUP BY k.ordinal
),
commitment AS (
    SELECT k.ordinal,
        count(*) FILTER (WHERE NOT s.cancelled) AS total,
        count(*) FILTER (WHERE s.open AND c.status <> 'overdue') AS active,
        count(*) FILTER (WHERE s.open AND c.due_date < k.today) AS overdue,
        count(*) FILTER (WHERE s.completed) AS fulfilled,
        count(*) FILTER (WHERE s.open AND c.due_date BETWEEN k.today AND k.today + 30) AS upcoming,
        min(c.due_date) FILTER (WHERE s.open AND c.due_date >= k.today) AS next_due,
        min(c.due_date) FILTER (WHERE s.open AND c.due_date > k.today + 30) AS next_upcoming,
        min(s.ends_at) FILTER (WHERE s.ends_at > k.as_of) AS next_end
    FROM refresh_keys AS k
    JOIN raw.commitments AS c ON c.tenant_id = k.tenant_id AND c.dossier_id = k.dossier_id
    CROSS JOIN LATERAL (
        SELECT CASE c.status WHEN 'completed' THEN c.completed_at WHEN 'cancelled' THEN c.cancelled_at END AS ends_at
    ) AS e
    CROSS JOIN LATERAL (
        SELECT e.ends_at,
            c.status = 'completed' AND coalesce(e.ends_at <= k.as_of, true) AS completed,
            c.status = 'cancelled' AND coalesce(e.ends_at <= k.as_of, true) AS cancelled,
            c.status NOT IN ('completed', 'cancelled') OR coalesce(e.ends_at > k.as_of, false) AS open
    ) AS s
    WHERE c.created_at IS NULL OR c.created_at <= k.as_of
    GROUP BY k.ordinal
),
commitment_to_come AS (
    SELECT k.ordinal, min(c.created_at) AS created_at
    FROM refresh_keys AS k
    JOIN raw.commitments AS c ON c.tenant_id = k.tenant_id AND c.dossier_id = k.dossier_id
    WHERE c.created_at > k.as_of
    GROUP BY k.ordinal
),
statistic AS (
    SELECT k.*,
        coalesce(e.in_year, 0) AS in_year, coalesce(e.in_quarter, 0) AS in_quarter, e.latest,
        least(100, round(100 * CAST(coalesce(e.in_year, 0) AS numeric) / s.yearly_target, 2)) AS frequency,
        coalesce(c.total, 0) AS total, coalesce(c.active, 0) AS active, coalesce(c.overdue, 0) AS overdue,
        coalesce(c.fulfilled, 0) AS fulfilled, coalesce(c.upcoming, 0) AS upcoming,
        CASE WHEN coalesce(c.total, 0) = 0 THEN 100 ELSE round(100 * CAST(c.fulfilled AS numeric) / c.total) END AS rate,
        r.recency,
        least(
            k.as_of + interval '60 minutes',
            e.next_to_come,
            e.oldest_in_year + 365 * interval '24 hours' + interval '1 microsecond',
            e.oldest_in_quarter + 90 * interval '24 hours' + interval '1 microsecond',
            r.next_step,
            CAST(c.next_due + 1 AS timestamp) AT TIME ZONE k.timezone,
            CAST(c.next_upcoming - 30 AS timestamp) AT TIME ZONE k.timezone,
            c.next_end,
            n.created_at
        ) AS stale_at,
        s.weight_engagement, s.weight_commitment, s.weight_recency, s.min_engagements, s.min_commitments,
        s.excellent_from, s.good_from, s.fair_from
    FROM refresh_keys AS k
    JOIN dossiers.health_settings AS s
        ON s.tenant_id = k.tenant_id AND s.version = :version AND s.dossier_type = k.settings_type
    LEFT JOIN engagement AS e ON e.ordinal = k.ordinal
    LEFT JOIN commitment AS c ON c.ordinal = k.ordinal
    LEFT JOIN commitment_to_come AS n ON n.ordinal = k.ordinal
    CROSS JOIN LATERAL (
        SELECT floor(extract(epoch FROM k.as_of - e.latest) / 86400) AS days
    ) AS d
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN d.days <= s.fresh_days THEN s.fresh_points
                WHEN d.days <= s.recent_days THEN s.recent_points
                WHEN d.days <= s.distant_days THEN s.distant_points
                ELSE s.silent_points END AS recency,
            CASE WHEN d.days <= s.fresh_days THEN e.latest + (s.fresh_days + 1) * interval '24 hours'
                WHEN d.days <= s.recent_days THEN e.latest + (s.recent_days + 1) * interval '24 hours'
                WHEN d.days <= s.distant_days THEN e.latest + (s.distant_days + 1) * interval '24 hours'
            END AS next_step
    ) AS r
),
scored AS (
    SELECT t.*,
        CASE WHEN t.in_year >= t.min_engagements AND t.total >= t.min_commitments THEN
            round(t.weight_engagement * t.frequency + t.weight_commitment * t.rate + t.weight_recency * t.recency)
        END AS overall
    FROM statistic AS t
)
INSERT INTO refreshed
SELECT
    tenant_id, dossier_id, in_year, in_quarter, latest, frequency, total, active, overdue, fulfilled, upcoming, rate,
    recency, overall,
    CASE WHEN overall IS NULL THEN 'insufficient_data'
        WHEN overall >= excellent_from THEN 'excellent'
        WHEN overall >= good_from THEN 'good'
        WHEN overall >= fair_from THEN 'fair'
        ELSE 'poor' END,
    CASE WHEN overall IS NULL THEN concat_ws('; ',
        CASE WHEN in_year < min_engagements THEN
            format('needs %s engagement%s in 365 days, found %s', min_engagements,
                CASE WHEN min_engagements = 1 THEN '' ELSE 's' END, in_year) END,
        CASE WHEN total < min_commitments THEN
            format('needs %s commitment%s, found %s', min_commitments,
                CASE WHEN min_commitments = 1 THEN '' ELSE 's' END, total) END
    ) END,
    stale_at, as_of, today, stale, engagement_ids, commitment_ids
FROM scored
