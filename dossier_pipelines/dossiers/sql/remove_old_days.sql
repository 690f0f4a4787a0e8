-- Remove a tenant's days of months before :before. Grain: one row per day. Uses snapshot_days_month_idx.
DELETE FROM dossiers.snapshot_days WHERE tenant_id = :tenant_id AND month < :before
