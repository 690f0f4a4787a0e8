-- Raise what is wrong with jobs and clear what is right again; each trouble is told once until it clears.
-- failing: the last two runs that ended failed. missed: no run ended for longer than the job's time.
-- Grain: one row per trouble raised, in words. Uses audit_log_job_idx, two entries a job.
WITH job AS (
    SELECT j.name, j.minutes FROM unnest(CAST(:jobs AS text[]), CAST(:minutes AS double precision[])) AS j (name, minutes)
),
judged AS MATERIALIZED (
    SELECT j.name, j.minutes, last.ended_at, coalesce(last.failures = 2, false) AS failing, last.error,
        greatest(last.ended_at, CAST(:since AS timestamptz)) < CAST(:now AS timestamptz) - j.minutes * interval '1 minute'
            AS missed
    FROM job AS j
    CROSS JOIN LATERAL (
        SELECT max(l.recorded_at) AS ended_at, count(*) FILTER (WHERE l.status = 'FAILURE') AS failures,
            (array_agg(l.error ORDER BY l.recorded_at DESC) FILTER (WHERE l.error IS NOT NULL))[1] AS error
        FROM (
            SELECT a.recorded_at, a.details ->> 'status' AS status, a.details ->> 'error' AS error
            FROM platform.audit_log AS a
            WHERE a.tenant_id = '*' AND a.details ->> 'job_name' = j.name AND a.details ->> 'status' <> 'running'
            ORDER BY a.recorded_at DESC LIMIT 2
        ) AS l
    ) AS last
),
trouble AS MATERIALIZED (
    SELECT j.name, t.condition, t.holds, t.said
    FROM judged AS j
    CROSS JOIN LATERAL (VALUES
        ('failing', j.failing, format('%s failed twice in a row. The last error: %s', j.name, coalesce(j.error, 'not known'))),
        ('missed', j.missed, format('%s did not run when it should: %s, and it should every %s minutes', j.name,
            coalesce('the last run ended at ' || date_trunc('second', j.ended_at), 'no run ended yet'), j.minutes))
    ) AS t (condition, holds, said)
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
    SELECT '*', CAST(md5(r.address) AS uuid), r.address, 'job_trouble', 1,
        format('Job in trouble: %s', a.job), format('%s. Open its runs in the Dagster UI.', a.said),
        jsonb_build_object('job', a.job, 'condition', a.condition), format('job_trouble:%s:%s', a.id, md5(r.address)),
        CAST(:now AS timestamptz)
    FROM raised AS a
    CROSS JOIN unnest(CAST(:recipients AS text[])) AS r (address)
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
)
SELECT a.job, a.condition, a.said FROM raised AS a
