-- Who holds a lease. NOWAIT: while somebody writes under it, it is not free. Grain: one row. Uses job_leases_pkey.
SELECT l.holder, l.fencing_number, l.acquired_at, l.expires_at,
    l.holder IS NULL OR l.expires_at <= clock_timestamp() AS free
FROM platform.job_leases AS l
WHERE l.tenant_id = :tenant_id AND l.job = :job
FOR UPDATE NOWAIT
