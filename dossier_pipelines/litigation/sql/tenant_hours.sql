-- The hours of service by priority of each tenant that is checked. Read after the marks were taken: policies that are loaded
-- meanwhile are judged by, or else their mark is left. A working table of the check.
-- Grain: one row per tenant in task_moments. Uses sla_policies_tenant_id_key.
SELECT m.tenant_id, litigation.service_hours(m.tenant_id, CAST(:hours AS jsonb)) AS hours FROM task_moments AS m
