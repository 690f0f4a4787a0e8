"""Events and the rules that answer them: when EVENT of a tenant and CONDITION on its payload, do ACTIONS.

Owns ``raw.automation_rules`` and the schema ``automation_rules``. It works in the present, also for a tenant whose
records end at a moment of their own: rules are machinery, no records.

- A statement trigger on ``platform.events`` marks what a rule listens to; marks become executions in one statement,
  once per event and rule whatever is run again. A rule answers what is recorded from when on it is active
  (``active_since``: since it was saved, enabled, or got another event or condition), never history.
- A condition is a path of the SQL/JSON path language over the payload. It holds when the path gives anything besides
  false and null: ``$.days_overdue > 3`` is a predicate, ``$.items[*] ? (@.amount > 100)`` a filter, ``$.urgent`` a
  value. (`jsonb_path_exists` would call every predicate true, `jsonb_path_match` every filter unknown.) What cannot be
  compared is unknown, and unknown does not hold.
- An action that fails is logged, tried again with exponential waits, and given up after so many attempts; what the
  rule's other actions did stays done. Other rules and tenants go on.
- What an action causes is one deeper than its event (`Rule chains` in schema/rules.sql); from a depth on events are
  answered no more, so that rules that answer each other end.
"""
