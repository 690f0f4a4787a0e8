-- Dossiers without their three rows, and rows without a dossier. Grain: one row. Full joins over the primary keys.
SELECT count(*) AS violations, (array_agg(coalesce(d.id, s.dossier_id, e.dossier_id, c.dossier_id)))[1:20] AS examples
FROM raw.dossiers AS d
FULL JOIN dossiers.health_scores AS s ON s.tenant_id = d.tenant_id AND s.dossier_id = d.id
FULL JOIN dossiers.engagement_stats AS e ON e.tenant_id = d.tenant_id AND e.dossier_id = d.id
FULL JOIN dossiers.commitment_stats AS c ON c.tenant_id = d.tenant_id AND c.dossier_id = d.id
WHERE (d.id IS NULL OR s.dossier_id IS NULL OR e.dossier_id IS NULL OR c.dossier_id IS NULL)
    -- A dossier of the last minutes waits for its first refresh.
    AND NOT EXISTS (
        SELECT FROM platform.stale_marks AS m WHERE m.tenant_id = d.tenant_id AND m.dossier_id = d.id
    )
