-- The newest load of an entity, per tenant that loads it, and why rows were set aside. Grain: one row per such tenant.
-- Uses loads_tenant_id_entity_load_id_idx.
SELECT t.tenant_id, l.rows_read, l.rejected, (
    SELECT jsonb_object_agg(x.reason, x.n) FROM (
        SELECT regexp_replace(r.reason, ':? ?E?''([^'']|'''')*''', '', 'g') AS reason, count(*) AS n
        FROM ingestion.rejected_rows AS r
        WHERE r.entity = :entity AND r.load_id = l.load_id
        GROUP BY 1 ORDER BY n DESC, 1 LIMIT 10
    ) AS x
) AS reasons
FROM (SELECT DISTINCT d.tenant_id FROM ingestion.loads AS d WHERE d.entity = :entity) AS t
CROSS JOIN LATERAL (
    SELECT l.load_id, l.rows_read, l.rejected FROM ingestion.loads AS l
    WHERE l.tenant_id = t.tenant_id AND l.entity = :entity ORDER BY l.load_id DESC LIMIT 1
) AS l
