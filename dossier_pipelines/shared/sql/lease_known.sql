-- Make the row of a lease that was never taken. Grain: one row. Uses job_leases_pkey.
INSERT INTO platform.job_leases (tenant_id, job, fencing_number) VALUES (:tenant_id, :job, 0)
ON CONFLICT (tenant_id, job) DO NOTHING
