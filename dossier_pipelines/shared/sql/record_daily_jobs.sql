-- Write down that a daily job is done for days of tenants; the first run that says so stays.
-- Grain: one row per tenant and day. Uses daily_jobs_pkey.
INSERT INTO platform.daily_jobs (tenant_id, job, day, run_id, done_at)
SELECT d.tenant_id, :job, d.day, :run_id, CAST(:now AS timestamptz)
FROM unnest(CAST(:tenants AS text[]), CAST(:days AS date[])) AS d (tenant_id, day)
ON CONFLICT (tenant_id, job, day) DO NOTHING
