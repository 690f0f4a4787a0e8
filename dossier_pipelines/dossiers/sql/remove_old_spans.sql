-- Remove a tenant's spans that end before :before. Grain: one row per span. Uses snapshot_spans_year_idx.
DELETE FROM dossiers.snapshot_spans AS s
WHERE s.tenant_id = :tenant_id AND s.year < CAST(:before AS date) AND s.last_day < CAST(:before AS date)
