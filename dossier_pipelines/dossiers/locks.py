"""The locks of the desk's jobs: names and times as the specification has them."""

from typing import Final

from dossier_pipelines.shared.job_lease import JobLock

REFRESH: Final = JobLock(name="refresh_health_scores", seconds=900)
OVERDUE: Final = JobLock(name="detect_overdue_commitments", seconds=3600)
SNAPSHOTS: Final = JobLock(name="daily_snapshots", seconds=3600)
# The day's own snapshot waits for a restating, and not for a backfill.
SNAPSHOT_PATIENCE_SECONDS: Final = 15.0
# How long a run waits for another one that is about to finish.
PATIENCE_SECONDS: Final = 120.0
