-- Cut a tenant's spans that begin before :before and go on: within a span nothing changes. Grain: one row per span. Uses
-- snapshot_spans_year_idx.
UPDATE dossiers.snapshot_spans AS s
SET first_day = CAST(:before AS date), previous_score = s.overall_score, factors = '[]'
WHERE s.tenant_id = :tenant_id AND s.year = date_trunc('year', CAST(:before AS timestamp))
    AND s.first_day < CAST(:before AS date) AND s.last_day >= CAST(:before AS date)
