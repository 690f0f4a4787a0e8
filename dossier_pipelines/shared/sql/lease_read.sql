-- Whether a lease is free, and who holds it. Grain: one row, or none while somebody writes under it or takes it: then
-- it is not free. Uses job_leases_pkey.
SELECT l.holder, l.fencing_number, l.acquired_at, l.expires_at,
    l.holder IS NULL OR l.expires_at <= clock_timestamp() AS free
FROM platform.job_leases AS l
WHERE l.tenant_id = :tenant_id AND l.job = :job
FOR UPDATE SKIP LOCKED
