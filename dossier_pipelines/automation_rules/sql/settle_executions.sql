-- Write down how attempts ended: what succeeded is not done again, what failed is tried again later, exponentially so,
-- until :attempts were made; one whose event is gone is given up at once.
-- Grain: one row per execution, and one in the log; returns one row of counts. Reads the working tables by their keys, and
-- executions_pkey.
WITH ended AS MATERIALIZED (
    SELECT x.tenant_id, x.rule_id, x.event_id, x.rule_name, x.trigger_event, x.attempts + 1 AS attempts,
        x.done || coalesce(a.done, '{}') AS done, coalesce(a.actions, '[]') AS actions,
        CASE WHEN x.payload IS NULL THEN 'the event is gone' ELSE a.error END AS error, x.payload IS NULL AS gone
    FROM executing AS x
    LEFT JOIN (
        SELECT o.tenant_id, o.rule_id, o.event_id, array_agg(o.identity ORDER BY o.n) FILTER (WHERE o.error IS NULL) AS done,
            string_agg(format('action %s (%s): %s', o.n, o.action, o.error), '; ' ORDER BY o.n)
                FILTER (WHERE o.error IS NOT NULL) AS error,
            jsonb_agg(jsonb_strip_nulls(jsonb_build_object('n', o.n, 'action', o.action,
                'status', CASE WHEN o.error IS NULL THEN 'success' ELSE 'failed' END, 'error', o.error)) ORDER BY o.n)
                AS actions
        FROM acting AS o
        GROUP BY o.tenant_id, o.rule_id, o.event_id
    ) AS a ON a.tenant_id = x.tenant_id AND a.rule_id = x.rule_id AND a.event_id = x.event_id
),
settled AS (
    UPDATE automation_rules.executions AS x
    SET status = CASE WHEN e.error IS NULL THEN 'success'
            WHEN e.gone OR e.attempts >= CAST(:attempts AS integer) THEN 'dead' ELSE 'failed' END,
        attempts = e.attempts, done = e.done, last_error = e.error, executed_at = CAST(:now AS timestamptz),
        run_id = CAST(:run_id AS text),
        next_attempt_at = CASE WHEN e.error IS NULL THEN x.next_attempt_at ELSE clock_timestamp() + interval '1 second'
            * least(CAST(:longest_seconds AS double precision), CAST(:first_seconds AS double precision)
                * power(2, least(e.attempts - 1, 30))) END
    FROM ended AS e
    WHERE x.tenant_id = e.tenant_id AND x.rule_id = e.rule_id AND x.event_id = e.event_id
    RETURNING x.status
),
logged AS (
    INSERT INTO automation_rules.automation_logs (
        tenant_id, rule_id, rule_name, trigger_event, event_id, status, actions_executed, error_message, executed_at, run_id
    )
    SELECT e.tenant_id, e.rule_id, e.rule_name, e.trigger_event, e.event_id,
        CASE WHEN e.error IS NULL THEN 'success' ELSE 'failed' END, e.actions, e.error, CAST(:now AS timestamptz),
        CAST(:run_id AS text)
    FROM ended AS e
)
SELECT count(*) FILTER (WHERE s.status = 'success') AS succeeded, count(*) FILTER (WHERE s.status = 'failed') AS failed,
    count(*) FILTER (WHERE s.status = 'dead') AS dead
FROM settled AS s
