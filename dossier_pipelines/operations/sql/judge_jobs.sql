-- Raise what is wrong with jobs and clear what is right again; each trouble is told once until it clears.
-- failing: the last runs that ended failed, as many as the job may not. missed: no run ended for longer than the job's
-- time. slow: the last one that succeeded took over twice what is expected; slower: over 1.5 times. unreliable: of the
-- last 20 that ended more than a tenth failed. The first three are alarms, the others warnings.
-- Grain: one row per trouble raised, in words. Uses audit_log_job_idx, twenty entries a job.
WITH job AS (
    SELECT j.name, j.minutes, j.failures, j.seconds
    FROM unnest(
        CAST(:jobs AS text[]), CAST(:minutes AS double precision[]), CAST(:failures AS integer[]),
        CAST(:seconds AS double precision[])
    ) AS j (name, minutes, failures, seconds)
),
judged AS MATERIALIZED (
    SELECT j.name, j.minutes, j.failures, j.seconds, last.ended_at, last.in_a_row = j.failures AS failing, last.error,
        last.took, last.ended, last.failed,
        greatest(last.ended_at, CAST(:since AS timestamptz)) < CAST(:now AS timestamptz) - j.minutes * interval '1 minute'
            AS missed
    FROM job AS j
    CROSS JOIN LATERAL (
        SELECT max(l.recorded_at) AS ended_at, count(*) AS ended, count(*) FILTER (WHERE l.status = 'FAILURE') AS failed,
            count(*) FILTER (WHERE l.status = 'FAILURE' AND l.place <= j.failures) AS in_a_row,
            (array_agg(l.error ORDER BY l.place) FILTER (WHERE l.error IS NOT NULL AND l.place <= j.failures))[1] AS error,
            (array_agg(l.took ORDER BY l.place) FILTER (WHERE l.status = 'SUCCESS'))[1] AS took
        FROM (
            SELECT a.recorded_at, a.details ->> 'status' AS status, a.details ->> 'error' AS error,
                CAST(a.details ->> 'execution_time_ms' AS double precision) / 1000 AS took,
                row_number() OVER (ORDER BY a.recorded_at DESC) AS place
            FROM platform.audit_log AS a
            WHERE a.tenant_id = '*' AND a.details ->> 'job_name' = j.name AND a.details ->> 'status' <> 'running'
            ORDER BY a.recorded_at DESC LIMIT 20
        ) AS l
    ) AS last
),
trouble AS MATERIALIZED (
    SELECT j.name, t.condition, coalesce(t.holds, false) AS holds, t.said, t.urgency
    FROM judged AS j
    CROSS JOIN LATERAL (VALUES
        ('failing', j.failing, 1, format('%s failed %s in a row. The last error: %s', j.name,
            CASE j.failures WHEN 2 THEN 'twice' ELSE format('%s times', j.failures) END, coalesce(j.error, 'not known'))),
        ('missed', j.missed, 1, format('%s did not run when it should: %s, and it should every %s minutes', j.name,
            coalesce('the last run ended at ' || date_trunc('second', j.ended_at), 'no run ended yet'), j.minutes)),
        ('slow', j.took > 2 * j.seconds, 1, format('%s took %s s, more than twice the %s s that are expected of it',
            j.name, round(CAST(j.took AS numeric), 1), j.seconds)),
        ('slower', j.took > 1.5 * j.seconds AND j.took <= 2 * j.seconds, 2,
            format('%s took %s s, more than 1.5 times the %s s that are expected of it',
                j.name, round(CAST(j.took AS numeric), 1), j.seconds)),
        ('unreliable', j.seconds IS NOT NULL AND j.failed > 0.1 * j.ended AND j.ended >= 10, 2,
            format('%s failed in %s of its last %s runs', j.name, j.failed, j.ended))
    ) AS t (condition, holds, urgency, said)
),
cleared AS (
    UPDATE platform.job_alerts AS a SET cleared_at = clock_timestamp()
    FROM trouble AS t
    WHERE a.tenant_id = '*' AND a.job = t.name AND a.condition = t.condition AND a.cleared_at IS NULL AND NOT t.holds
),
raised AS (
    INSERT INTO platform.job_alerts (tenant_id, job, condition, said)
    SELECT '*', t.name, t.condition, t.said FROM trouble AS t WHERE t.holds
    ON CONFLICT (tenant_id, job, condition) WHERE cleared_at IS NULL DO NOTHING
    RETURNING id, job, condition, said
),
told AS (
    INSERT INTO notifications.notifications (
        tenant_id, user_id, address, kind, urgency, title, message, metadata, dedupe_key, created_at
    )
    SELECT '*', CAST(md5(r.address) AS uuid), r.address, 'job_trouble',
        CASE WHEN a.condition IN ('slower', 'unreliable') THEN 2 ELSE 1 END,
        format('Job in trouble: %s', a.job), format('%s. Open its runs in the Dagster UI.', a.said),
        jsonb_build_object('job', a.job, 'condition', a.condition), format('job_trouble:%s:%s', a.id, md5(r.address)),
        CAST(:now AS timestamptz)
    FROM raised AS a
    CROSS JOIN unnest(CAST(:recipients AS text[])) AS r (address)
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
)
SELECT a.job, a.condition, a.said FROM raised AS a
