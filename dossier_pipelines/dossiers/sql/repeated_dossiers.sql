-- Dossiers that have the same name and type as another of their tenant. Grain: one row. Reads raw.dossiers once.
SELECT coalesce(sum(n), 0) AS violations, (array_agg(first_id))[1:20] AS examples
FROM (
    SELECT count(*) - 1 AS n, (array_agg(id ORDER BY id))[1] AS first_id
    FROM raw.dossiers GROUP BY tenant_id, name, type HAVING count(*) > 1
) AS repeated
