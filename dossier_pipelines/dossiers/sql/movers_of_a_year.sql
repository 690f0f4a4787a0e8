-- Whose score moved most in the year up to the newest snapshot, with the course of each.
-- Grain: one row per dossier, at most :most. Uses snapshot_spans_pkey for the courses.
WITH period AS (
    SELECT max(d.day) AS to_day, greatest(max(d.day) - 365, min(d.day)) AS from_day FROM dossiers.snapshot_days AS d
),
mover AS (
    SELECT m.*, p.from_day, p.to_day
    FROM period AS p
    CROSS JOIN LATERAL dossiers.score_movers(p.from_day, p.to_day) AS m
    ORDER BY abs(m.change) DESC, m.name, m.dossier_id
    LIMIT :most
)
SELECT m.name, m.score_was, m.score_is, m.change, m.factors, m.from_day, m.to_day, c.scores
FROM mover AS m
CROSS JOIN LATERAL (
    SELECT array_agg(s.overall_score ORDER BY s.first_day) AS scores FROM dossiers.snapshot_spans AS s
    WHERE s.tenant_id = m.tenant_id AND s.dossier_id = m.dossier_id AND s.first_day BETWEEN m.from_day AND m.to_day
) AS c
ORDER BY abs(m.change) DESC, m.name
