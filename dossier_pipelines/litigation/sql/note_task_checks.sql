-- Note how far the tasks of each tenant are judged. Grain: one row per tenant. Uses task_checks_pkey.
INSERT INTO litigation.task_checks AS c (tenant_id, checked_until)
SELECT m.tenant_id, m.as_of FROM task_moments AS m
ON CONFLICT (tenant_id) DO UPDATE SET checked_until = excluded.checked_until
WHERE c.checked_until <> excluded.checked_until
