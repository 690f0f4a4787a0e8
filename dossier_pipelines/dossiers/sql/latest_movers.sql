-- The dossiers whose score moved most in the newest changes, with the reasons. Grain: one row per dossier, at most ten.
-- Reads health_scores once.
SELECT replace(d.name, '|', '/') AS name, s.previous_score, s.overall_score,
    coalesce((SELECT string_agg(f ->> 'text', ', ') FROM jsonb_array_elements(s.factors) AS f), '') AS because
FROM dossiers.health_scores AS s
JOIN raw.dossiers AS d ON d.tenant_id = s.tenant_id AND d.id = s.dossier_id
WHERE s.overall_score <> s.previous_score
ORDER BY s.changed_at DESC, abs(s.overall_score - s.previous_score) DESC, d.id
LIMIT 10
