-- The tenants of the desk. Grain: one row per tenant. Uses tenants_pkey.
SELECT r.tenant_id FROM raw.tenants AS r
JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
ORDER BY r.tenant_id
