-- The stored spans that lie in, or next to, the days of the chunk.
-- Grain: one row of a working table per span. Uses snapshot_spans_pkey; for all dossiers the partitions of the years are read.
SELECT x.*, k.first_day AS range_first, k.last_day AS range_last
FROM snapshot_scope AS k
JOIN dossiers.snapshot_spans AS x ON x.tenant_id = k.tenant_id AND x.dossier_id = k.dossier_id
    AND x.first_day <= k.last_day + 1 AND x.last_day >= k.first_day - 1
    AND x.year BETWEEN date_trunc('year', CAST(:first_day AS timestamp) - interval '1 day')
        AND CAST(:last_day AS timestamp) + interval '1 day'
