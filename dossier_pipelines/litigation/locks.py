"""The desk's locks. Times: twice what the original called the longest acceptable, at least 300 s."""

from typing import Final

from dossier_pipelines.shared.job_lease import JobLock

CHECK_TASKS: Final = JobLock(name="check_sla_and_overdue", seconds=300)
REMIND: Final = JobLock(name="send_hearing_reminders", seconds=300)
ALERT: Final = JobLock(name="check_upcoming_deadlines", seconds=300)
METRICS: Final = JobLock(name="analytics_snapshot", seconds=3600)
# How long a run that was asked for waits for another one under the same lock.
METRICS_PATIENCE_SECONDS: Final = 15.0
