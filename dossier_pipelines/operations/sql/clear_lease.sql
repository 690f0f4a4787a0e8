-- Free a lease whose holder is gone, unless somebody else has it by now, or its holder gave a sign of life.
-- Grain: one row, or none. Uses job_leases_pkey.
UPDATE platform.job_leases AS l
SET holder = NULL, ended_at = clock_timestamp(), ended_because = :because
WHERE l.tenant_id = :tenant_id AND l.job = :job AND l.fencing_number = :fencing_number AND l.holder IS NOT NULL
    AND (:because <> 'expired' OR l.expires_at <= clock_timestamp())
