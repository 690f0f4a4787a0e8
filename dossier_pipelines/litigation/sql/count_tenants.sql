-- How many tenants there are. Grain: one row. Uses tenants_pkey.
SELECT count(*) AS tenants FROM raw.tenants AS r
WHERE r.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL
