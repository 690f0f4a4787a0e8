-- The newest day that has come to its end, which it has from 23:59 on.
CREATE OR REPLACE FUNCTION litigation.newest_whole_day(moment timestamptz, timezone text) RETURNS date
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CAST((moment + interval '1 minute') AT TIME ZONE timezone AS date) - 1;

-- The people of the tenants of this desk.
CREATE OR REPLACE VIEW litigation.users WITH (security_invoker = true) AS
SELECT u.tenant_id, u.id, u.name, u.email, u.phone, u.role, u.locale, u.timezone, u.whatsapp
FROM raw.users AS u
JOIN raw.tenants AS t ON t.tenant_id = u.tenant_id;

-- What is late now: one row per flagged task, with its case and how late it is.
CREATE OR REPLACE VIEW litigation.late_tasks WITH (security_invoker = true) AS
SELECT f.tenant_id, n.name AS tenant, f.task_id, t.title, t.priority, t.assigned_to, t.due_date, f.overdue_since, f.sla_missed_at,
    CASE WHEN f.overdue_since IS NOT NULL THEN CAST(f.flagged_at AT TIME ZONE n.timezone AS date)
        - CAST(f.overdue_since AT TIME ZONE n.timezone AS date) END AS days_overdue_when_found,
    t.case_id, c.case_number
FROM litigation.task_flags AS f
JOIN raw.tasks AS t ON t.tenant_id = f.tenant_id AND t.id = f.task_id
JOIN raw.tenants AS n ON n.tenant_id = f.tenant_id
LEFT JOIN raw.cases AS c ON c.tenant_id = t.tenant_id AND c.id = t.case_id;

-- The document that the original kept: one per tenant and day.
CREATE OR REPLACE VIEW litigation.daily_snapshots WITH (security_invoker = true) AS
SELECT m.tenant_id, m.day,
    jsonb_build_object(
        'metric_type', 'daily_snapshot',
        'snapshot_date', m.day,
        'metric_value', jsonb_object_agg(m.metric, m.value) || jsonb_build_object('anomaly_detected', EXISTS (
            SELECT FROM litigation.anomalies AS a
            WHERE a.tenant_id = m.tenant_id AND a.day = m.day AND a.detector = 'weekday_robust'
        ))
    ) AS snapshot
FROM litigation.daily_metrics AS m
GROUP BY m.tenant_id, m.day;

-- What each run of a job of this desk did, once it has ended, in the form of the original.
CREATE OR REPLACE VIEW litigation.job_results WITH (security_invoker = true) AS
SELECT a.tenant_id, a.run_id, a.recorded_at, a.details ->> 'job_name' AS job_name,
    CASE WHEN a.details ->> 'status' = 'SUCCESS' THEN jsonb_build_object(
        'success', true, 'job', j.job, 'executedAt', s.started_at, 'results', a.details -> 'results',
        'executionTime', concat(round(CAST(a.details ->> 'execution_time_ms' AS numeric) / 1000, 1), 's'))
    ELSE jsonb_build_object(
        'success', false, 'job', j.job, 'error', split_part(e.error, '. ', 1), 'errorDetails', e.error,
        'executedAt', s.started_at) END AS document
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
CROSS JOIN LATERAL (
    -- Rows from before the start was written down have the duration.
    SELECT coalesce(CAST(a.details ->> 'started_at' AS timestamptz), a.recorded_at
        - coalesce(CAST(a.details ->> 'execution_time_ms' AS numeric), 0) * interval '1 millisecond') AS started_at
) AS s
WHERE a.action_type = 'background_job_execution' AND a.details ->> 'status' <> 'running';
