-- Write down what a run has done so far; how it ended is added when it has. Grain: one row per run.
-- Uses audit_log_run_idx.
INSERT INTO platform.audit_log AS a (tenant_id, action_type, entity_type, run_id, details)
VALUES (:tenant_id, 'background_job_execution', 'job', :run_id,
    jsonb_build_object('job_name', CAST(:job AS text), 'status', 'running', 'results', CAST(:results AS jsonb)))
ON CONFLICT (tenant_id, run_id) WHERE action_type = 'background_job_execution'
DO UPDATE SET details = jsonb_set(a.details, '{results}',
    coalesce(nullif(a.details -> 'results', 'null'), '{}') || (excluded.details -> 'results'))
