"""The room's effects: answering events, and judging the health of the rules."""

import time

import dagster as dg

from dossier_pipelines.automation_rules import locks
from dossier_pipelines.automation_rules.actions import ActionHandlers
from dossier_pipelines.automation_rules.answering import JOB, answer_events, answering_policy
from dossier_pipelines.automation_rules.automation_health import SHOWN_AS, HealthScope, check_health
from dossier_pipelines.automation_rules.replaying import parse_rule_id, replay_dead
from dossier_pipelines.notifications.recording import delivery_policy
from dossier_pipelines.shared.clock import parse_moment, zone
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines.shared.result_document import result_document
from dossier_pipelines.shared.runs import readable_failures, run_moment


class AnswerConfig(dg.Config):
    """With dry_run everything is tried and taken back: what would happen, and nothing does."""

    dry_run: bool = False


def build_answer_events_job(handlers: ActionHandlers) -> dg.JobDefinition:
    """Return the job that answers events; ``handlers`` is what the desks carry out."""

    @dg.op(
        description="Match the events that rules listen to, and carry out the actions of the rules that hold. With "
        "dry_run: try all of it, take it back, and say what it would be.",
        out=dg.Out(dg.Nothing),
        tags={"kind": "postgres"},
    )
    def answer_due_events(
        context: dg.OpExecutionContext, config: AnswerConfig, database: dg.ResourceParam[Database]
    ) -> None:
        """Answer under the lease of the job."""
        began = time.monotonic()
        with readable_failures("Answering events"):
            settings = read_settings()
            now = run_moment(context.instance, context.run.run_id)
            with locks.ANSWER.lease(database, holder=context.run.run_id) as lease:
                results = answer_events(
                    database,
                    handlers,
                    now=now,
                    run_id=context.run.run_id,
                    policy=answering_policy(settings),
                    delivery=delivery_policy(settings),
                    lease=lease,
                    dry_run=config.dry_run,
                )
        seconds = time.monotonic() - began
        context.log.info(
            "%d events, %d executions succeeded, %d failed, %d given up, in %d ms%s",
            results["eventsMatched"],
            results["succeeded"],
            results["failed"],
            results["givenUp"],
            seconds * 1000,
            " (dry run)" if config.dry_run else "",
        )
        document = result_document(JOB, results, executed_at=now, seconds=seconds)
        context.add_output_metadata({**results, "result": dg.MetadataValue.json(document)})

    @dg.job(
        name="answer_events_job",
        description="Let the rules answer what happened. Started by a sensor when there is something.",
        tags=locks.ANSWER.tags,
    )
    def answer_events_job() -> None:
        """Answer."""
        answer_due_events()

    return answer_events_job


class ReplayConfig(dg.Config):
    """Which dead executions to replay: a tenant's, or one rule's. If neither is named, everything has to be true."""

    tenant_id: str | None = None
    rule_id: str | None = None
    everything: bool = False


@dg.op(
    description="Make dead executions due anew, when what failed is mended: those whose rule as it is now answers the "
    "event. The others stay dead and say why.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def replay_dead_executions(
    context: dg.OpExecutionContext, config: ReplayConfig, database: dg.ResourceParam[Database]
) -> None:
    """Replay what the configuration names."""
    with readable_failures("Replaying dead executions"):
        if not (config.tenant_id or config.rule_id or config.everything):
            raise UserError("Name what to replay: tenant_id or rule_id, or set everything to true.")
        replayed = replay_dead(
            database,
            tenant_id=config.tenant_id,
            rule_id=parse_rule_id(config.rule_id, argument="rule_id") if config.rule_id else None,
        )
    context.log.info("Due anew: %d executions", replayed.due)
    for reason, executions in replayed.left.items():
        context.log.info("Still given up: %d, %s", executions, reason)
    left = sum(replayed.left.values())
    context.add_output_metadata({"replayed": replayed.due, "left": left, "reasons": dict(replayed.left)})


@dg.job(description="Make what automation rules gave up due anew: of a tenant, of one rule, or everything.")
def replay_dead_executions_job() -> None:
    """Replay."""
    replay_dead_executions()


class HealthConfig(dg.Config):
    """Whose rules: by default those of tenants whose 07:00 has come, once a day; or one tenant's, or everybody's.

    With as_of, which only a dry run takes, the default is everybody's.
    """

    dry_run: bool = False
    tenant_id: str | None = None
    everybody: bool = False
    as_of: str | None = None


@dg.op(
    description="Judge the rules by their log of 24 hours, and tell the administrators what is wrong, once until it "
    "clears. With dry_run: only the figures.",
    out=dg.Out(dg.Nothing),
    tags={"kind": "postgres"},
)
def check_automation_health(
    context: dg.OpExecutionContext, config: HealthConfig, database: dg.ResourceParam[Database]
) -> None:
    """Judge under the lease of the job."""
    began = time.monotonic()
    with readable_failures("Checking the health of the automation rules"):
        if config.tenant_id and config.everybody:
            raise UserError("Name a tenant_id or set everybody to true, not both.")
        settings = read_settings()
        timezone = zone(settings.timezone, setting="DOSSIER_TIMEZONE")
        now = run_moment(context.instance, context.run.run_id)
        scope = HealthScope(
            tenant_id=config.tenant_id,
            everybody=config.everybody,
            as_of=parse_moment(config.as_of, timezone=timezone, argument="as_of") if config.as_of else None,
            dry_run=config.dry_run,
        )
        with locks.HEALTH.lease(database, holder=context.run.run_id) as lease:
            results = check_health(
                database, scope, now=now, run_id=context.run.run_id, delivery=delivery_policy(settings), lease=lease
            )
    seconds = time.monotonic() - began
    context.log.info(
        "%d tenants, %d executions, %d failed; %d alerts raised, %d cleared, in %d ms%s",
        results["tenants"],
        results["total_executions"],
        results["failed_executions"],
        results["alertsRaised"],
        results["alertsCleared"],
        seconds * 1000,
        " (dry run)" if config.dry_run else "",
    )
    document = result_document(SHOWN_AS, results, executed_at=now, seconds=seconds)
    figures = {name: value for name, value in results.items() if isinstance(value, bool | int | float)}
    context.add_output_metadata({**figures, "result": dg.MetadataValue.json(document)})


@dg.job(
    description="Every morning of each tenant: judge the automation rules, alert the administrators.",
    tags=locks.HEALTH.tags,
)
def automation_health_check_job() -> None:
    """Judge."""
    check_automation_health()
