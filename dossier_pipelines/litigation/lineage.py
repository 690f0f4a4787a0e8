"""From which columns each computed column comes."""

from typing import Final

OF_TASKS: Final = [
    ("raw/tasks", "created_at"),
    ("raw/tasks", "due_date"),
    ("raw/tasks", "priority"),
    ("litigation/task_history", "status"),
    ("litigation/task_history", "valid_from"),
]
DAILY_METRICS: Final = {
    "value": [
        *OF_TASKS,
        ("raw/cases", "created_at"),
        ("raw/cases", "closed_at"),
        ("raw/hearings", "hearing_date"),
        ("raw/hearings", "status"),
        ("raw/hearings", "attended"),
        ("raw/case_documents", "uploaded_at"),
        ("raw/sla_policies", "hours"),
    ],
}
TASK_HISTORY: Final = {
    "status": [("raw/tasks", "status")],
    "valid_from": [("raw/tasks", "created_at"), ("raw/tasks", "completed_at")],
}
TASK_FLAGS: Final = {
    "overdue_since": [("raw/tasks", "status"), ("raw/tasks", "due_date")],
    "sla_missed_at": [
        ("raw/tasks", "status"),
        ("raw/tasks", "created_at"),
        ("raw/tasks", "priority"),
        ("raw/sla_policies", "hours"),
    ],
}
VALUES: Final = [("litigation/daily_metrics", "value"), ("litigation/daily_metrics", "day")]
ANOMALIES: Final = {
    "value": [("litigation/daily_metrics", "value")],
    "expected": VALUES,
    "low": VALUES,
    "high": VALUES,
    "deviation": VALUES,
}
