"""A job of ours executed in this process, and recorded in Dagster's storage as any other run."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dossier_pipelines.shared.deployment import Deployment
from dossier_pipelines.shared.failures import UserError

if TYPE_CHECKING:
    import dagster as dg
    from dagster_shared.error import SerializableErrorInfo


def execute_job(
    deployment: Deployment, job: str, *, tags: Mapping[str, str], verbose: bool, ops: Mapping[str, Any] | None = None
) -> dg.ExecuteInProcessResult:
    """Execute a job in this process, recorded in Dagster's storage; raise UserError with its reasons when it fails.

    ``tags`` and ``ops``, the configuration of its ops, are the run's.
    """
    import dagster as dg

    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    from dossier_pipelines.definitions import build_defs
    from dossier_pipelines.shared.resources import DatabaseResource

    # The server runs already; a run of its own need not find it again.
    os.environ["DOSSIER_DATABASE_URL"] = deployment.url
    defs = build_defs(resources={"database": DatabaseResource()})
    if not verbose:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        # What is tried again, and succeeds, is nobody's trouble; what does not is told by the failure.
        logging.getLogger("stamina").setLevel(logging.ERROR)
    loggers = {"console": {"config": {"log_level": "INFO" if verbose else "CRITICAL"}}}
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def(job).execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"ops": ops, "loggers": loggers} if ops else {"loggers": loggers},
            tags={"dossier/launched_by": "command line", **tags},
        )
    if not result.success:
        raise UserError(failure_message(result))
    return result


def failure_message(result: dg.ExecuteInProcessResult) -> str:
    """Return why a run failed: the failures' own words, and the checks that broke."""
    reasons: list[str] = []
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed and evaluation.blocking:
            reasons.append(
                f"check {evaluation.check_name} of {evaluation.asset_key.to_user_string()}: {evaluation.description}"
            )
    for event in result.all_events:
        if event.is_run_failure and event.job_failure_data.error is not None:
            reasons.append(_root_cause(event.job_failure_data.error))
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            reasons.append(data.user_failure_data.description)
        elif data.error is not None and not (reasons and "Check" in (data.error.cls_name or "")):
            reasons.append(f"{event.step_key}: {_root_cause(data.error)}")
    told = [" ".join(reason.split()) for reason in dict.fromkeys(reasons)]
    # The cause is often quoted by whoever says what to do about it.
    said = [reason for reason in told if not any(reason in other and reason != other for other in told)]
    return "; ".join(dict.fromkeys(said)) or f"run {result.run_id} failed; its log is in the Dagster UI."


def _root_cause(error: SerializableErrorInfo) -> str:
    while error.cause is not None:
        error = error.cause
    # The message begins with the class, its module before it unless it is a built-in one.
    return re.sub(rf"^([\w.]+\.)?{re.escape(error.cls_name or '')}: ", "", error.message.strip())
