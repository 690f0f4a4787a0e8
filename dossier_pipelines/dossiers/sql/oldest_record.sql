-- The day of the oldest record. Grain: one row. Reads every record: only asked to explain a refusal.
SELECT min(platform.first_day(x.moment, t.timezone)) AS day
FROM platform.tenants AS t
JOIN (
    SELECT d.tenant_id, min(d.created_at) AS moment FROM raw.dossiers AS d GROUP BY d.tenant_id
    UNION ALL
    SELECT c.tenant_id, min(c.created_at) FROM raw.commitments AS c GROUP BY c.tenant_id
    UNION ALL
    SELECT e.tenant_id, min(e.occurred_at) FROM raw.engagements AS e GROUP BY e.tenant_id
) AS x ON x.tenant_id = t.tenant_id
WHERE (CAST(:tenant_id AS text) IS NULL OR t.tenant_id = :tenant_id)
