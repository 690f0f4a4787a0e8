-- Those of the named tenants whose clocks have not come to :as_of: the first of them, and what its clock shows.
-- Grain: one row, or none. Uses tenants_pkey.
SELECT t.tenant_id, m.present
FROM platform.tenants AS t
CROSS JOIN LATERAL (SELECT coalesce(t.clock_at, CAST(:now AS timestamptz)) AS present) AS m
WHERE t.tenant_id = ANY (CAST(:tenants AS text[])) AND m.present < CAST(:as_of AS timestamptz)
ORDER BY t.tenant_id
LIMIT 1
