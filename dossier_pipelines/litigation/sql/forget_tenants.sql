-- Forget how far the tasks of tenants are judged that the desk has no more, their flags and their marks: no check takes
-- these. One that comes back is judged anew. Grain: one row per mark of such a tenant. Reads the checks, one a tenant, and
-- the marks, which are few: every check takes them away; uses tenants_pkey, task_flags_pkey by a range per such tenant.
WITH gone AS (
    DELETE FROM litigation.task_checks AS c
    WHERE NOT EXISTS (SELECT FROM raw.tenants AS r WHERE r.tenant_id = c.tenant_id)
    RETURNING c.tenant_id
),
unflagged AS (
    DELETE FROM litigation.task_flags AS f
    WHERE f.tenant_id = ANY (ARRAY(SELECT g.tenant_id FROM gone AS g))
)
DELETE FROM litigation.task_marks AS k
WHERE NOT EXISTS (SELECT FROM raw.tenants AS r WHERE r.tenant_id = k.tenant_id)
