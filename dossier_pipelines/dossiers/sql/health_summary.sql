-- What the scores add up to. Grain: one row, over one tenant or all. Reads statistics and scores once each.
SELECT
    count(*) AS dossiers,
    count(s.overall_score) AS scored,
    count(*) FILTER (WHERE s.band = 'insufficient_data') AS insufficient_data,
    round(avg(s.overall_score), 2) AS average_score,
    count(*) FILTER (WHERE s.band = 'excellent') AS excellent,
    count(*) FILTER (WHERE s.band = 'good') AS good,
    count(*) FILTER (WHERE s.band = 'fair') AS fair,
    count(*) FILTER (WHERE s.band = 'poor') AS poor,
    coalesce(sum(c.overdue_commitments), 0) AS overdue_commitments,
    coalesce(sum(c.upcoming_commitments), 0) AS upcoming_commitments
FROM raw.dossiers AS d
LEFT JOIN dossiers.health_scores AS s ON s.tenant_id = d.tenant_id AND s.dossier_id = d.id
LEFT JOIN dossiers.commitment_stats AS c ON c.tenant_id = d.tenant_id AND c.dossier_id = d.id
WHERE CAST(:tenant_id AS text) IS NULL OR d.tenant_id = :tenant_id
