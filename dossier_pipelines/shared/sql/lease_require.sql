-- Whether a lease is still held, and keep it so until the transaction ends: taking it needs FOR UPDATE, renewing it
-- does not. Grain: one row, or none. Uses job_leases_pkey.
SELECT l.fencing_number FROM platform.job_leases AS l
WHERE l.tenant_id = :tenant_id AND l.job = :job AND l.fencing_number = :fencing_number AND l.holder IS NOT NULL
FOR KEY SHARE
