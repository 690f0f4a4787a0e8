-- Dossiers without their three rows, and rows without a dossier. Grain: one row. Reads the four primary keys once each.
SELECT count(*) AS violations, (array_agg(incomplete.dossier_id))[1:20] AS examples
FROM (
    SELECT f.tenant_id, f.dossier_id FROM (
        SELECT d.tenant_id, d.id AS dossier_id FROM raw.dossiers AS d
        UNION ALL SELECT s.tenant_id, s.dossier_id FROM dossiers.health_scores AS s
        UNION ALL SELECT e.tenant_id, e.dossier_id FROM dossiers.engagement_stats AS e
        UNION ALL SELECT c.tenant_id, c.dossier_id FROM dossiers.commitment_stats AS c
    ) AS f
    GROUP BY f.tenant_id, f.dossier_id HAVING count(*) < 4
) AS incomplete
-- A dossier that came or went in the last minutes waits for the next refresh.
WHERE NOT EXISTS (
    SELECT FROM platform.stale_marks AS m
    WHERE m.consumer = 'dossiers.health' AND m.tenant_id = incomplete.tenant_id AND m.dossier_id = incomplete.dossier_id
)
