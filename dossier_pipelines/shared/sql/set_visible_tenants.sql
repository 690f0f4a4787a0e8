-- Let a role see the named tenants, and no others. Grain: one row per tenant. Uses analysts_pkey.
WITH gone AS (
    DELETE FROM platform.analysts AS a WHERE a.role_name = :role AND a.tenant_id <> ALL (CAST(:tenants AS text[]))
)
INSERT INTO platform.analysts (role_name, tenant_id)
SELECT :role, n.tenant_id FROM unnest(CAST(:tenants AS text[])) AS n (tenant_id)
ON CONFLICT DO NOTHING
