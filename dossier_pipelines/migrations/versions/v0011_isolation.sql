COMMENT ON COLUMN ingestion.rejected_rows.tenant_id IS 'Whose row this is; * for one that names no known tenant, which only who sees all tenants reads';

-- What named no known tenant was stored as the configured one's. The next load says of each row whose it is.
UPDATE ingestion.rejected_rows SET tenant_id = '*'
WHERE tenant_id <> '*' AND entity IN (
    'tenants', 'litigation users', 'courts', 'cases', 'tasks', 'hearings', 'litigation documents', 'sla_policies',
    'automation_rules'
);

-- So many hours that no moment is so late stopped the check of all tenants. What is cut is judged anew by the next load,
-- which finds another hash and sets it aside with its reason.
UPDATE raw.sla_policies SET hours = 87600, source_hash = source_hash # 1 WHERE hours > 87600;
ALTER TABLE raw.sla_policies DROP CONSTRAINT sla_policies_hours_check;
ALTER TABLE raw.sla_policies ADD CONSTRAINT sla_policies_hours_check CHECK (hours > 0 AND hours <= 87600);

-- Of several policies of a tenant and priority any may have counted. One stays; the next load sets the others aside.
DELETE FROM raw.sla_policies AS p USING raw.sla_policies AS o
WHERE o.tenant_id = p.tenant_id AND o.priority = p.priority AND o.id < p.id;
-- The triggers of the rows above look at the constraints of the table when they are done.
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE raw.sla_policies ADD CONSTRAINT sla_policies_tenant_id_priority_key
    UNIQUE (tenant_id, priority) DEFERRABLE INITIALLY DEFERRED;
