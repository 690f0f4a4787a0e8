-- What retention removes: the snapshots of whole months before the one that lies :keep_days back, by each tenant's clock.
-- Grain: one row per tenant with something to remove; a span that goes on afterwards is cut. Uses snapshot_days_pkey and
-- snapshot_spans_year_idx.
SELECT m.tenant_id, m.before, d.days, s.spans,
    CAST(s.spans * coalesce(z.bytes / nullif(z.spans, 0), 0) AS bigint) AS bytes
FROM (
    SELECT t.tenant_id, CAST(date_trunc(
        'month', coalesce(t.clock_at, CAST(:now AS timestamptz)) AT TIME ZONE t.timezone - :keep_days * interval '1 day'
    ) AS date) AS before
    FROM platform.tenants AS t
) AS m
CROSS JOIN LATERAL (
    SELECT count(*) AS days FROM dossiers.snapshot_days AS x WHERE x.tenant_id = m.tenant_id AND x.day < m.before
) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS spans FROM dossiers.snapshot_spans AS x
    WHERE x.tenant_id = m.tenant_id AND x.year < m.before AND x.last_day < m.before
) AS s
CROSS JOIN (
    SELECT sum(pg_total_relation_size(i.inhrelid)) AS bytes, sum(greatest(c.reltuples, 0)) AS spans
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = CAST('dossiers.snapshot_spans' AS regclass)
) AS z
WHERE d.days > 0 OR s.spans > 0
