-- Records of raw.documents whose dossier does not exist. Grain: one row. An anti-join of documents_dossier_idx with dossiers_pkey.
SELECT count(*) AS violations, (array_agg(r.id))[1:20] AS examples
FROM raw.documents AS r
WHERE NOT EXISTS (SELECT FROM raw.dossiers AS d WHERE d.tenant_id = r.tenant_id AND d.id = r.dossier_id)
