-- What is late now, by tenant. Grain: one row per tenant with a flagged task. Reads task_flags.
SELECT n.name AS tenant, count(f.overdue_since) AS overdue, count(f.sla_missed_at) AS violating,
    max(CAST(f.flagged_at AT TIME ZONE n.timezone AS date) - CAST(f.overdue_since AT TIME ZONE n.timezone AS date)) AS longest
FROM litigation.task_flags AS f
JOIN raw.tenants AS n ON n.tenant_id = f.tenant_id
GROUP BY n.name
ORDER BY count(f.overdue_since) DESC, n.name
