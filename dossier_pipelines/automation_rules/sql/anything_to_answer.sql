-- Whether an event waits for its rules, or an execution is due. Grain: one row. Uses the marks and executions_next_idx,
-- each read up to the first entry.
SELECT EXISTS (SELECT FROM automation_rules.unmatched)
    OR EXISTS (
        SELECT FROM automation_rules.executions AS x
        WHERE x.status IN ('pending', 'failed') AND x.next_attempt_at <= statement_timestamp()
    ) AS due
