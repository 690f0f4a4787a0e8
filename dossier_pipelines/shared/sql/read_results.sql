-- What a run has written down. Grain: one row, or none. Uses audit_log_run_idx.
SELECT a.details -> 'results' AS results FROM platform.audit_log AS a
WHERE a.tenant_id = :tenant_id AND a.run_id = :run_id AND a.action_type = 'background_job_execution'
