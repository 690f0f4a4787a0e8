-- Remove a tenant's spans of months before :before. Grain: one row per span. Uses snapshot_spans_month_idx.
DELETE FROM dossiers.snapshot_spans WHERE tenant_id = :tenant_id AND month < :before
