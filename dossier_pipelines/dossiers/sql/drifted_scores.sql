-- What the newest full recomputation of each tenant found different. Grain: one row. Uses health_refreshes_pkey.
WITH newest AS (
    SELECT f.drifted, f.drifted_dossiers
    FROM platform.tenants AS t
    CROSS JOIN LATERAL (
        SELECT h.drifted, h.drifted_dossiers FROM dossiers.health_refreshes AS h
        WHERE h.tenant_id = t.tenant_id AND h.mode = 'full' ORDER BY h.refresh_id DESC LIMIT 1
    ) AS f
)
SELECT coalesce(sum(n.drifted), 0) AS violations,
    ARRAY(SELECT unnest(x.drifted_dossiers) FROM newest AS x LIMIT 20) AS examples
FROM newest AS n
