-- Who holds a lease, asked without waiting for anybody. Grain: one row. Uses job_leases_pkey.
SELECT l.holder, l.acquired_at, l.expires_at FROM platform.job_leases AS l
WHERE l.tenant_id = :tenant_id AND l.job = :job
