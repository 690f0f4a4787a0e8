-- Within how many hours a tenant wants its tasks done, by priority: what its policies say, and defaults for the others.
-- It is not inlined: call it once a tenant, behind a fence or into a working table.
CREATE OR REPLACE FUNCTION litigation.service_hours(tenant text, defaults jsonb) RETURNS jsonb LANGUAGE sql STABLE
RETURN defaults || coalesce(
    (SELECT jsonb_object_agg(p.priority, p.hours) FROM raw.sla_policies AS p WHERE p.tenant_id = tenant), '{}');
