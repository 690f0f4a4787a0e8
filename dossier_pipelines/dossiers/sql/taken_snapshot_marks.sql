-- The dossiers whose snapshots have been overtaken, each with the day from which on (null: all days).
-- Grain: one row per dossier with taken marks, those of a restating that died included.
SELECT m.tenant_id, CAST(m.dossier_id AS text) AS dossier_id,
    CAST(CASE WHEN NOT bool_or(m.since IS NULL) THEN platform.first_day(min(m.since), min(t.timezone)) END AS text)
        AS since_day
FROM dossiers.snapshot_marks AS m
JOIN platform.tenants AS t ON t.tenant_id = m.tenant_id
WHERE m.taken
GROUP BY m.tenant_id, m.dossier_id
