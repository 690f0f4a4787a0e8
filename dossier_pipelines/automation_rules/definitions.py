"""The registry of the automation rules, and nothing else."""

import dagster as dg

from dossier_pipelines.automation_rules import assets, automation, ops
from dossier_pipelines.automation_rules.actions import NO_DESK, ActionHandlers
from dossier_pipelines.shared.environment import Settings


def build_automation_rules_defs(settings: Settings, handlers: ActionHandlers = NO_DESK) -> dg.Definitions:
    """Return what the room adds to the house; ``handlers`` is what the desks carry out."""
    answer_events_job = ops.build_answer_events_job(handlers)
    return dg.Definitions(
        assets=assets.ASSETS,
        jobs=[answer_events_job, ops.replay_dead_executions_job, ops.automation_health_check_job],
        schedules=automation.build_schedules(settings),
        sensors=automation.build_sensors(settings, answer_events_job),
    )
