-- How many executions are due and wait for the next run. Grain: one row. Uses executions_next_idx.
SELECT count(*) AS waiting FROM automation_rules.executions AS x
WHERE x.status IN ('pending', 'failed') AND x.next_attempt_at <= statement_timestamp()
