-- Remove what is derived from dossiers that are no more, and that their deletion could not remove: this or another
-- refresh held it, or wrote it anew. A full refresh looks at every row, not only at the dossiers with a mark.
-- Grain: one row per dossier that is gone. An anti-join of the keys with dossiers_pkey.
WITH derived AS (
    SELECT k.tenant_id, k.dossier_id FROM refresh_keys AS k WHERE NOT CAST(:full AS boolean)
    UNION ALL
    SELECT a.tenant_id, a.dossier_id FROM (
        SELECT s.tenant_id, s.dossier_id FROM dossiers.health_scores AS s
        UNION ALL SELECT s.tenant_id, s.dossier_id FROM dossiers.engagement_stats AS s
        UNION ALL SELECT s.tenant_id, s.dossier_id FROM dossiers.commitment_stats AS s
    ) AS a
    WHERE CAST(:full AS boolean) AND (CAST(:tenant_id AS text) IS NULL OR a.tenant_id = :tenant_id)
),
vanished AS MATERIALIZED (
    SELECT v.tenant_id, v.dossier_id FROM derived AS v
    WHERE NOT EXISTS (SELECT FROM raw.dossiers AS d WHERE d.tenant_id = v.tenant_id AND d.id = v.dossier_id)
),
engagement AS (
    DELETE FROM dossiers.engagement_stats AS s USING vanished AS v
    WHERE s.tenant_id = v.tenant_id AND s.dossier_id = v.dossier_id
),
commitment AS (
    DELETE FROM dossiers.commitment_stats AS s USING vanished AS v
    WHERE s.tenant_id = v.tenant_id AND s.dossier_id = v.dossier_id
),
alert AS (
    DELETE FROM dossiers.relationship_alerts AS s USING vanished AS v
    WHERE s.tenant_id = v.tenant_id AND s.dossier_id = v.dossier_id
)
DELETE FROM dossiers.health_scores AS s USING vanished AS v
WHERE s.tenant_id = v.tenant_id AND s.dossier_id = v.dossier_id
