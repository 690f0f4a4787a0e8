-- Engagements after the tenant's clock. Grain: one row. Reads raw.engagements once.
SELECT count(*) AS violations, (array_agg(e.id ORDER BY e.occurred_at DESC))[1:20] AS examples
FROM raw.engagements AS e
JOIN platform.tenants AS t ON t.tenant_id = e.tenant_id
WHERE e.occurred_at > coalesce(t.clock_at, CAST(:now AS timestamptz))
