-- Go on holding a lease. Grain: one row, or none when it is lost. Uses job_leases_pkey.
UPDATE platform.job_leases AS l SET expires_at = clock_timestamp() + :seconds * interval '1 second'
WHERE l.tenant_id = :tenant_id AND l.job = :job AND l.fencing_number = :fencing_number AND l.holder IS NOT NULL
