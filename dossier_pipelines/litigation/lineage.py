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
