-- What is late now, by tenant; two may have one name. Grain: one row per tenant with a flagged task. Reads task_flags.
SELECT n.tenant_id, n.name, count(f.overdue_since) AS overdue, count(f.sla_missed_at) AS violating,
    max(CAST(f.flagged_at AT TIME ZONE n.timezone AS date) - CAST(f.overdue_since AT TIME ZONE n.timezone AS date)) AS longest
FROM litigation.task_flags AS f
JOIN raw.tenants AS n ON n.tenant_id = f.tenant_id
GROUP BY n.tenant_id, n.name
ORDER BY count(f.overdue_since) DESC, n.name, n.tenant_id
