-- What each run of a job of this desk did, once it has ended, in the form of the original.
CREATE OR REPLACE VIEW litigation.job_results WITH (security_invoker = true) AS
SELECT a.tenant_id, a.run_id, a.recorded_at, a.details ->> 'job_name' AS job_name,
    CASE WHEN a.details ->> 'status' = 'SUCCESS' THEN jsonb_build_object(
        'success', true, 'job', j.job, 'executedAt', a.recorded_at, 'results', a.details -> 'results',
        'executionTime', concat(round(CAST(a.details ->> 'execution_time_ms' AS numeric) / 1000, 1), 's'))
    ELSE jsonb_build_object(
        'success', false, 'job', j.job, 'error', split_part(e.error, '. ', 1), 'errorDetails', e.error,
        'executedAt', a.recorded_at) END AS document
FROM platform.audit_log AS a
JOIN (VALUES
    ('check_sla_and_overdue_job', 'check-sla-and-overdue'),
    ('send_hearing_reminders_job', 'send-hearing-reminders'),
    ('analytics_snapshot_job', 'analytics-snapshot'),
    ('check_upcoming_deadlines_job', 'check-upcoming-deadlines'),
    ('automation_health_check_job', 'automation-health-check')
) AS j (name, job) ON j.name = a.details ->> 'job_name'
CROSS JOIN LATERAL (
    SELECT coalesce(a.details ->> 'error', concat('The run ended as ', a.details ->> 'status', '.')) AS error
) AS e
WHERE a.action_type = 'background_job_execution' AND a.details ->> 'status' <> 'running';
