-- What the newest full recomputation of each tenant found different. Grain: one row. Uses health_refreshes_pkey.
SELECT coalesce(sum(f.drifted), 0) AS violations, (
    SELECT (array_agg(x.id))[1:20] FROM unnest(string_to_array(string_agg(array_to_string(f.drifted_dossiers, ','), ','), ',')) AS x (id)
) AS examples
FROM platform.tenants AS t
CROSS JOIN LATERAL (
    SELECT h.drifted, h.drifted_dossiers FROM dossiers.health_refreshes AS h
    WHERE h.tenant_id = t.tenant_id AND h.mode = 'full' ORDER BY h.refresh_id DESC LIMIT 1
) AS f
