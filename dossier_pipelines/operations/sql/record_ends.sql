-- Write down how runs ended: one row per run, whoever comes first and however often. Grain: one row per run.
-- Uses audit_log_run_idx.
INSERT INTO platform.audit_log AS a (tenant_id, action_type, entity_type, run_id, details, recorded_at)
SELECT '*', 'background_job_execution', 'job', r.run_id, jsonb_build_object(
        'job_name', r.job, 'status', r.status, 'results', NULL, 'execution_time_ms', r.milliseconds,
        'started_at', r.started_at, 'error', r.error),
    r.ended_at
FROM jsonb_to_recordset(CAST(:ends AS jsonb)) AS r (
    run_id text, job text, status text, milliseconds bigint, started_at text, error text, ended_at timestamptz
)
ON CONFLICT (tenant_id, run_id) WHERE action_type = 'background_job_execution'
DO UPDATE SET details = excluded.details || jsonb_build_object('results', a.details -> 'results'),
    recorded_at = excluded.recorded_at
WHERE a.details ->> 'status' = 'running'
