-- The formula: from what is counted to the score, for any moment. Inlined where it is used (a refresh, a day's snapshot),
-- so that there is one definition and no call. The settings come one by one: taken from a row, each use of one would
-- take the row apart. next_step is when recency loses a step by time alone.
CREATE OR REPLACE FUNCTION dossiers.health(
    in_year bigint, total bigint, fulfilled bigint, latest timestamptz, as_of timestamptz,
    weight_engagement numeric, weight_commitment numeric, weight_recency numeric,
    yearly_target integer, min_engagements integer, min_commitments integer,
    fresh_days integer, recent_days integer, distant_days integer,
    fresh_points integer, recent_points integer, distant_points integer, silent_points integer,
    excellent_from integer, good_from integer, fair_from integer
) RETURNS TABLE (
    frequency numeric, rate numeric, recency integer, next_step timestamptz, overall numeric, band text, reason text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT c.frequency, c.rate, c.recency, c.next_step, o.overall,
        CASE WHEN o.overall IS NULL THEN 'insufficient_data'
            WHEN o.overall >= excellent_from THEN 'excellent'
            WHEN o.overall >= good_from THEN 'good'
            WHEN o.overall >= fair_from THEN 'fair'
            ELSE 'poor' END,
        CASE WHEN o.overall IS NULL THEN concat_ws('; ',
            CASE WHEN in_year < min_engagements THEN
                concat('needs ', min_engagements, ' engagement', CASE WHEN min_engagements = 1 THEN '' ELSE 's' END,
                    ' in 365 days, found ', in_year) END,
            CASE WHEN total < min_commitments THEN
                concat('needs ', min_commitments, ' commitment', CASE WHEN min_commitments = 1 THEN '' ELSE 's' END,
                    ', found ', total) END
        ) END
    FROM (
        SELECT
            least(100, round(CAST(100 * in_year AS numeric) / yearly_target, 2)) AS frequency,
            CASE WHEN total = 0 THEN 100 ELSE round(CAST(100 * fulfilled AS numeric) / total) END AS rate,
            -- Elapsed whole days are at most n exactly while less than n + 1 days have passed.
            CASE WHEN as_of < u.fresh_until THEN fresh_points
                WHEN as_of < u.recent_until THEN recent_points
                WHEN as_of < u.distant_until THEN distant_points
                ELSE silent_points END AS recency,
            CASE WHEN as_of < u.fresh_until THEN u.fresh_until
                WHEN as_of < u.recent_until THEN u.recent_until
                WHEN as_of < u.distant_until THEN u.distant_until END AS next_step
        FROM (
            SELECT latest + (fresh_days + 1) * interval '24 hours' AS fresh_until,
                latest + (recent_days + 1) * interval '24 hours' AS recent_until,
                latest + (distant_days + 1) * interval '24 hours' AS distant_until
        ) AS u
        -- Without a fence each use of a value below would compute it again.
        OFFSET '0'
    ) AS c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN in_year >= min_engagements AND total >= min_commitments THEN
            round(weight_engagement * c.frequency + weight_commitment * c.rate + weight_recency * c.recency)
        END AS overall
        OFFSET '0'
    ) AS o
$$;
