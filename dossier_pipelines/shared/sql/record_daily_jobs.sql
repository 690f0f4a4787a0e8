-- Write down that a daily job is done for days of tenants, and to where it reaches; the first run that says so stays.
-- Grain: one row per tenant and day. Uses daily_jobs_pkey.
INSERT INTO platform.daily_jobs AS j (tenant_id, job, day, run_id, done_at, reaches_to)
SELECT d.tenant_id, :job, d.day, :run_id, CAST(:now AS timestamptz), d.ends
FROM unnest(CAST(:tenants AS text[]), CAST(:days AS date[]), CAST(:ends AS timestamptz[])) AS d (tenant_id, day, ends)
ON CONFLICT (tenant_id, job, day) DO UPDATE SET reaches_to = excluded.reaches_to WHERE j.reaches_to < excluded.reaches_to
