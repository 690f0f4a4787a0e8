COMMENT ON COLUMN ingestion.rejected_rows.tenant_id IS 'Whose row this is; * for one that names no known tenant, which only who sees all tenants reads';

-- What named no known tenant was stored as the configured one's. The next load says of each row whose it is.
UPDATE ingestion.rejected_rows SET tenant_id = '*'
WHERE tenant_id <> '*' AND entity IN (
    'tenants', 'litigation users', 'courts', 'cases', 'tasks', 'hearings', 'litigation documents', 'sla_policies',
    'automation_rules'
);
