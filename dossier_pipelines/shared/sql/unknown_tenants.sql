-- Those of the named tenants that are none. Grain: one row per name. Uses tenants_pkey.
SELECT n.tenant_id FROM unnest(CAST(:tenants AS text[])) AS n (tenant_id)
WHERE n.tenant_id <> '*' AND NOT EXISTS (SELECT FROM platform.tenants AS t WHERE t.tenant_id = n.tenant_id)
