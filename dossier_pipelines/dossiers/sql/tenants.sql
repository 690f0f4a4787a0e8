-- The tenants of the desk, or the named one if it is one of them. Grain: one row per tenant. Uses tenants_pkey and, by a
-- probe for each, dossiers_pkey.
SELECT t.tenant_id FROM platform.tenants AS t
WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
    AND EXISTS (SELECT FROM raw.dossiers AS d WHERE d.tenant_id = t.tenant_id OFFSET '0')
ORDER BY t.tenant_id
