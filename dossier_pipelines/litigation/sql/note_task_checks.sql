-- Note since when and how far the tasks of each tenant are judged, and with which grace.
-- Grain: one row per tenant. Uses task_checks_pkey.
INSERT INTO litigation.task_checks AS c (tenant_id, checked_since, checked_until, grace)
SELECT m.tenant_id, m.as_of, m.as_of, CAST(:grace AS interval) FROM task_moments AS m
ON CONFLICT (tenant_id) DO UPDATE SET checked_until = excluded.checked_until, grace = excluded.grace
WHERE (c.checked_until, c.grace) IS DISTINCT FROM (excluded.checked_until, excluded.grace)
