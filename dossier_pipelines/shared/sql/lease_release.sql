-- Let a lease go, if it is still ours. Grain: one row, or none. Uses job_leases_pkey.
UPDATE platform.job_leases AS l SET holder = NULL, ended_at = clock_timestamp(), ended_because = 'released'
WHERE l.tenant_id = :tenant_id AND l.job = :job AND l.fencing_number = :fencing_number AND l.holder IS NOT NULL
