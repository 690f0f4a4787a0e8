-- Write the anomalies found in a range of days, and remove those that are none any more; those of the robust detector
-- with the records that changed on the day. Grain: one row per tenant, metric, day and detector. Uses anomalies_pkey.
WITH found AS MATERIALIZED (
    SELECT f.tenant_id COLLATE "C" AS tenant_id, f.metric, f.day, f.detector, f.value, f.expected, f.low, f.high, f.deviation
    FROM jsonb_to_recordset(CAST(:found AS jsonb)) AS f (
        tenant_id text, metric text, day date, detector text, value float8, expected float8, low float8, high float8,
        deviation float8
    )
),
gone AS (
    DELETE FROM litigation.anomalies AS a
    WHERE a.day BETWEEN CAST(:from_day AS date) AND CAST(:to_day AS date)
        AND (a.tenant_id = ANY (CAST(:tenants AS text[])) OR CAST(:tenants AS text[]) IS NULL)
        AND NOT EXISTS (
            SELECT FROM found AS f WHERE f.tenant_id = a.tenant_id AND f.metric = a.metric AND f.day = a.day
                AND f.detector = a.detector
        )
),
explained AS (
    SELECT w.tenant_id, w.metric, w.day, jsonb_agg(
        jsonb_build_object('record', w.happened, 'count', w.count, 'ids', w.ids) ORDER BY w.happened
    ) AS records
    FROM (
        SELECT f.tenant_id, f.metric, f.day, e.happened, count(*) AS count, to_jsonb((array_agg(e.id ORDER BY e.id))[1:20]) AS ids
        FROM found AS f
        JOIN metric_events AS e ON e.tenant_id = f.tenant_id AND e.day = f.day
        WHERE f.detector = 'weekday_robust' AND e.happened = ANY (CASE f.metric
            WHEN 'case_count' THEN ARRAY['cases_opened', 'cases_closed']
            WHEN 'task_completion_rate' THEN ARRAY['tasks_set', 'tasks_completed', 'tasks_cancelled']
            WHEN 'sla_compliance_rate' THEN ARRAY['service_levels_missed', 'tasks_set', 'tasks_completed']
            WHEN 'hearing_attendance_rate' THEN ARRAY['hearings_held']
            WHEN 'document_count' THEN ARRAY['documents_uploaded']
            ELSE ARRAY['tasks_overdue', 'tasks_no_longer_overdue'] END)
        GROUP BY f.tenant_id, f.metric, f.day, e.happened
    ) AS w
    GROUP BY w.tenant_id, w.metric, w.day
),
written AS (
    INSERT INTO litigation.anomalies AS a (
        tenant_id, metric, day, detector, value, expected, low, high, deviation, records
    )
    SELECT f.tenant_id, f.metric, f.day, f.detector, f.value, f.expected, f.low, f.high, f.deviation, x.records
    FROM found AS f
    LEFT JOIN explained AS x
        ON f.detector = 'weekday_robust' AND x.tenant_id = f.tenant_id AND x.metric = f.metric AND x.day = f.day
    ON CONFLICT (tenant_id, metric, day, detector) DO UPDATE
        SET value = excluded.value, expected = excluded.expected, low = excluded.low, high = excluded.high,
            deviation = excluded.deviation, records = coalesce(excluded.records, a.records)
        WHERE (a.value, a.expected, a.low, a.high, a.deviation)
            IS DISTINCT FROM (excluded.value, excluded.expected, excluded.low, excluded.high, excluded.deviation)
            OR excluded.records IS DISTINCT FROM a.records AND excluded.records IS NOT NULL
)
SELECT (SELECT count(*) FROM found AS f WHERE f.detector = 'weekday_robust') AS robust,
    (SELECT count(*) FROM found AS f WHERE f.detector <> 'weekday_robust') AS original
