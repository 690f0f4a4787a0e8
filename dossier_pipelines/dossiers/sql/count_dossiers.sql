-- How many dossiers there are. Grain: one row. Uses dossiers_pkey.
SELECT count(*) AS dossiers FROM raw.dossiers AS d WHERE (CAST(:tenant_id AS text) IS NULL OR d.tenant_id = :tenant_id)
