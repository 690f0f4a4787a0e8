-- Every lease and whether it has run out. Grain: one row per job. Reads the table, which has a row per job.
SELECT l.tenant_id, l.job, l.holder, l.fencing_number, l.acquired_at, l.expires_at, l.ended_at, l.ended_because,
    l.holder IS NOT NULL AND l.expires_at <= clock_timestamp() AS expired
FROM platform.job_leases AS l
ORDER BY l.job, l.tenant_id
