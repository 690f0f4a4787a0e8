-- The tenants that have rules, or alerts of rules to be cleared. Grain: one row per tenant. Uses tenants_pkey and, by a
-- probe for each, former_tenants_pkey, automation_rules_pkey and health_alerts_open_idx.
SELECT t.tenant_id FROM platform.tenants AS t
WHERE NOT EXISTS (SELECT FROM automation_rules.former_tenants AS f WHERE f.tenant_id = t.tenant_id OFFSET '0') AND (
    EXISTS (SELECT FROM raw.automation_rules AS r WHERE r.tenant_id = t.tenant_id OFFSET '0')
    OR EXISTS (
        SELECT FROM automation_rules.health_alerts AS a WHERE a.tenant_id = t.tenant_id AND a.cleared_at IS NULL OFFSET '0'
    )
)
ORDER BY t.tenant_id
