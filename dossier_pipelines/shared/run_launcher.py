"""A launcher with which run monitoring finds the runs that died with their process.

Dagster's default launcher says that it cannot check a worker's health, so that a run whose host lost power stays
STARTED for ever (dagster-io/dagster#4319). Valid where the daemon and the runs share one host. It builds on
modules of Dagster that are not public: Dagster is pinned exactly, and a test runs it.
"""

import os
from pathlib import Path

from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher


class LocalRunLauncher(DefaultRunLauncher):
    """The default launcher, which also knows whether a run's process lives."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the process that started the run is still a Python process."""
        started = self._instance.all_logs(run.run_id, of_type=DagsterEventType.PIPELINE_START)
        event = started[0].dagster_event if started else None
        pid = event.pid if event else None
        if pid is None:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "the run has not started yet")
        return CheckRunHealthResult(
            WorkerStatus.RUNNING if _is_python_process(pid) else WorkerStatus.FAILED, f"process {pid}"
        )


def _is_python_process(pid: int) -> bool:
    if not Path("/proc/self/cmdline").exists():
        # Not Linux: that the id is in use must do.
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    try:
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
