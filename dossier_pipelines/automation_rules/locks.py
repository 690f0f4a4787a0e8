"""The locks of the room's jobs."""

from typing import Final

from dossier_pipelines.shared.job_lease import JobLock

ANSWER: Final = JobLock(name="answer_events", seconds=900)
HEALTH: Final = JobLock(name="automation_health_check", seconds=300)
