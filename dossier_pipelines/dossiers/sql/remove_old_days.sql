-- Remove a tenant's days before :before. Grain: one row per day. Uses snapshot_days_pkey.
DELETE FROM dossiers.snapshot_days AS d WHERE d.tenant_id = :tenant_id AND d.day < CAST(:before AS date)
