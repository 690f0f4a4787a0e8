-- Take a lease that is free. Grain: one row. Uses job_leases_pkey.
UPDATE platform.job_leases AS l
SET holder = :holder, fencing_number = l.fencing_number + 1, acquired_at = clock_timestamp(),
    expires_at = clock_timestamp() + :seconds * interval '1 second', ended_at = NULL, ended_because = NULL
WHERE l.tenant_id = :tenant_id AND l.job = :job
RETURNING l.fencing_number, l.expires_at
