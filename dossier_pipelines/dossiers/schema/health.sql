-- The formula: from what is counted to the score, for any moment. Inlined where it is used (a refresh, a day's snapshot),
-- so that there is one definition and no call. next_step is when recency loses a step by time alone.
CREATE OR REPLACE FUNCTION dossiers.health(
    in_year bigint, total bigint, fulfilled bigint, latest timestamptz, as_of timestamptz, s dossiers.health_settings
) RETURNS TABLE (
    frequency numeric, rate numeric, recency integer, next_step timestamptz, overall numeric, band text, reason text
) LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT c.frequency, c.rate, c.recency, c.next_step, o.overall,
        CASE WHEN o.overall IS NULL THEN 'insufficient_data'
            WHEN o.overall >= (s).excellent_from THEN 'excellent'
            WHEN o.overall >= (s).good_from THEN 'good'
            WHEN o.overall >= (s).fair_from THEN 'fair'
            ELSE 'poor' END,
        CASE WHEN o.overall IS NULL THEN concat_ws('; ',
            CASE WHEN in_year < (s).min_engagements THEN
                concat('needs ', (s).min_engagements, ' engagement', CASE WHEN (s).min_engagements = 1 THEN '' ELSE 's' END,
                    ' in 365 days, found ', in_year) END,
            CASE WHEN total < (s).min_commitments THEN
                concat('needs ', (s).min_commitments, ' commitment', CASE WHEN (s).min_commitments = 1 THEN '' ELSE 's' END,
                    ', found ', total) END
        ) END
    FROM (
        SELECT
            least(100, round(CAST(100 * in_year AS numeric) / (s).yearly_target, 2)) AS frequency,
            CASE WHEN total = 0 THEN 100 ELSE round(CAST(100 * fulfilled AS numeric) / total) END AS rate,
            -- Elapsed whole days are at most n exactly while less than n + 1 days have passed.
            CASE WHEN as_of < u.fresh_until THEN (s).fresh_points
                WHEN as_of < u.recent_until THEN (s).recent_points
                WHEN as_of < u.distant_until THEN (s).distant_points
                ELSE (s).silent_points END AS recency,
            CASE WHEN as_of < u.fresh_until THEN u.fresh_until
                WHEN as_of < u.recent_until THEN u.recent_until
                WHEN as_of < u.distant_until THEN u.distant_until END AS next_step
        FROM (
            SELECT latest + ((s).fresh_days + 1) * interval '24 hours' AS fresh_until,
                latest + ((s).recent_days + 1) * interval '24 hours' AS recent_until,
                latest + ((s).distant_days + 1) * interval '24 hours' AS distant_until
        ) AS u
        -- Without a fence each use of a value below would compute it again.
        OFFSET '0'
    ) AS c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN in_year >= (s).min_engagements AND total >= (s).min_commitments THEN
            round((s).weight_engagement * c.frequency + (s).weight_commitment * c.rate + (s).weight_recency * c.recency)
        END AS overall
        OFFSET '0'
    ) AS o
$$;
