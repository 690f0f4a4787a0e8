-- Every tenant of the desk, the moment that its tasks are judged for, since when and how far they are judged already, and
-- with which grace. A working table of the check. Grain: one row per tenant. Uses tenants_pkey, task_checks_pkey.
SELECT r.tenant_id, t.timezone, m.as_of, c.checked_since, c.checked_until, c.grace
FROM raw.tenants AS r
JOIN platform.tenants AS t ON t.tenant_id = r.tenant_id
LEFT JOIN litigation.task_checks AS c ON c.tenant_id = r.tenant_id
CROSS JOIN LATERAL (
    SELECT coalesce(CAST(:as_of AS timestamptz), t.clock_at, CAST(:now AS timestamptz)) AS as_of
) AS m
WHERE (CAST(:tenant_id AS text) IS NULL OR r.tenant_id = :tenant_id)
