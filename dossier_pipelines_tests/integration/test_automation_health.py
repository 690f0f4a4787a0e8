"""The health of rules: true figures of 24 hours, and administrators who hear of each trouble once."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from dossier_pipelines.automation_rules.automation_health import HealthScope, check_health
from dossier_pipelines.automation_rules.locks import ANSWER, HEALTH
from dossier_pipelines.definitions import build_defs
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.failures import LeaseLostError, UserError
from dossier_pipelines.shared.job_lease import job_lease
from dossier_pipelines_tests.integration.test_automation import a_run, instance, storage, tick
from dossier_pipelines_tests.outbox import Answer, receiver
from dossier_pipelines_tests.records import rows, scalar
from dossier_pipelines_tests.rules import TELL_ADMINS, House, answer

__all__ = ["instance", "storage"]

# 07:00 in Riyadh.
MORNING = datetime(2026, 1, 10, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)
LONG_AGO = MORNING - 100 * HOUR


@pytest.fixture
def house(database: Database) -> House:
    return House(database, timezone="Asia/Riyadh")


def ran(house: House, rule: uuid.UUID, *, succeeded: int = 0, failed: int = 0, ago: timedelta = HOUR) -> None:
    """Write the log of a rule."""
    for status, number in (("success", succeeded), ("failed", failed)):
        house.run(
            "INSERT INTO automation_rules.automation_logs (tenant_id, rule_id, rule_name, trigger_event, event_id, "
            "status, actions_executed, executed_at) SELECT :tenant, :rule, 'A rule', 'task_overdue', "
            "gen_random_uuid(), :status, '[]', :at FROM generate_series(1, :number)",
            tenant=house.tenant_id,
            rule=rule,
            status=status,
            at=MORNING - ago,
            number=number,
        )


def check(database: Database, *, now: datetime = MORNING, run_id: str | None = None, **scope: Any) -> dict[str, Any]:
    everybody = HealthScope(**{"everybody": "tenant_id" not in scope, **scope})
    return check_health(database, everybody, now=now, run_id=run_id or str(uuid.uuid4()))


def alerts(database: Database) -> list[tuple[str, str, str, bool]]:
    """Return level, condition, words, and whether it is over."""
    found = rows(database, "SELECT * FROM automation_rules.health_alerts ORDER BY raised_at, level, said")
    return [(row.level, row.condition, row.said, row.cleared_at is not None) for row in found]


def failures(database: Database) -> list[Any]:
    return rows(database, "SELECT * FROM automation_rules.automation_logs WHERE status = 'failed'")


def messages(database: Database) -> list[str]:
    found = rows(
        database,
        "SELECT title FROM notifications.notifications WHERE kind = 'automation_health' ORDER BY created_at, title",
    )
    return [row.title for row in found]


@pytest.mark.parametrize("of_an_earlier_release", [False, True])
def test_a_webhook_that_the_outbox_gives_up_is_a_failure_of_its_rule(
    database: Database, house: House, of_an_earlier_release: bool
) -> None:
    rule = house.rule(actions=[*TELL_ADMINS, {"action": "webhook"}], name="Tell the world")
    house.event()
    assert answer(database)["succeeded"] == 1
    if of_an_earlier_release:
        house.run(
            "UPDATE notifications.notifications SET metadata = metadata - 'action', "
            "dedupe_key = regexp_replace(dedupe_key, '[^:]*$', '2') WHERE channels = ARRAY['webhook']"
        )
    with receiver() as server:
        server.otherwise = Answer(503)
        server.deliver(database)
        assert failures(database) == []
        house.run("UPDATE notifications.deliveries SET next_attempt_at = '2020-01-01' WHERE status = 'failed'")
        server.otherwise = Answer(410)
        server.deliver(database)
    # What is told to the administrators goes by the webhook, too, but is no webhook of the rule.
    assert scalar(database, "SELECT count(*) FROM notifications.deliveries WHERE status = 'dead'") == 2
    [row] = failures(database)
    said = "given up by the outbox, attempts: 2: the receiver answered 410"
    assert (row.rule_id, row.rule_name, row.trigger_event) == (rule, "Tell the world", "task_overdue")
    assert row.event_id == scalar(database, "SELECT id FROM platform.events")
    assert row.error_message == f"action 2 (webhook): {said}"
    assert row.actions_executed == [{"n": 2, "action": "webhook", "status": "failed", "error": said}]
    # The success of NOW, when it was recorded, is long ago.
    [found] = check(database, now=row.executed_at)["byTenant"]
    assert [one["rule_id"] for one in found["degraded_rules"]] == [str(rule)]


def test_a_dead_delivery_of_anything_else_is_no_failure_of_a_rule(database: Database, house: House) -> None:
    house.rule(actions=TELL_ADMINS)
    house.event()
    answer(database)
    house.run(
        "INSERT INTO notifications.notifications (tenant_id, user_id, kind, urgency, title, message, metadata, "
        "channels, event_id, dedupe_key, created_at) SELECT :tenant, gen_random_uuid(), 'automation_rule', 3, 'x', '', "
        "CAST(m AS jsonb), ARRAY['webhook'], gen_random_uuid(), k, now() FROM (VALUES ('{}', 'automation_rule:a:b:1'), "
        """('{"rule": "a", "event": "b", "rule_id": "c"}', 'automation_rule:a:b:2'), ('[]', 'mine')) AS v (m, k)""",
        tenant=house.tenant_id,
    )
    answer(database)
    with receiver() as server:
        server.otherwise = Answer(410)
        server.deliver(database)
    assert scalar(database, "SELECT count(*) FROM notifications.deliveries WHERE status = 'dead'") == 4
    assert failures(database) == []


# --- figures ----------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_last_24_hours_of_each_tenant(database: Database, house: House) -> None:
    other = House(database, "other")
    rule = house.rule(active_since=LONG_AGO)
    ran(house, rule, succeeded=7, failed=1)
    ran(house, rule, succeeded=1, ago=24 * HOUR - timedelta(microseconds=1))
    ran(house, rule, failed=50, ago=24 * HOUR)
    ran(house, rule, failed=50, ago=-timedelta(microseconds=1))
    # Of a rule that is gone.
    ran(house, uuid.uuid4(), succeeded=1)
    result = check(database)
    mine, theirs = result["byTenant"]
    assert mine == {
        "tenant_id": "default",
        "total_executions": 10,
        "successful_executions": 9,
        "failed_executions": 1,
        "success_rate": 0.9,
        "degraded_rules": [],
        "inactive_rules": [],
    }
    # Where nothing ran there is no rate.
    assert (theirs["tenant_id"], theirs["total_executions"], theirs["success_rate"]) == (other.tenant_id, 0, None)
    assert (result["tenants"], result["total_executions"], result["success_rate"]) == (2, 10, 0.9)


@pytest.mark.parametrize(
    ("succeeded", "failed", "levels"),
    [
        (100, 0, []),
        (95, 5, []),
        (94, 6, ["INFO"]),
        (80, 20, ["INFO"]),
        (79, 21, ["CRITICAL", "INFO"]),
        (0, 1, ["CRITICAL", "INFO"]),
    ],
)
def test_alerts_follow_the_shares_exactly(
    database: Database, house: House, succeeded: int, failed: int, levels: list[str]
) -> None:
    rule = house.rule(name="Escalate", active_since=LONG_AGO)
    ran(house, rule, succeeded=succeeded, failed=failed)
    result = check(database)
    assert [level for level, *_ in alerts(database)] == levels
    assert result["degraded_rules"] == int("CRITICAL" in levels)
    if "CRITICAL" in levels:
        [entry] = result["byTenant"][0]["degraded_rules"]
        rate = round(failed / (succeeded + failed), 4)
        assert entry == {"rule_id": str(rule), "rule_name": "Escalate", "failure_rate": rate}


@pytest.mark.parametrize(
    ("known_for", "last_ran", "enabled", "inactive"),
    [
        (48 * HOUR, None, True, True),
        (48 * HOUR, None, None, True),
        (48 * HOUR - timedelta(seconds=1), None, True, False),
        (100 * HOUR, 48 * HOUR, True, True),
        (100 * HOUR, 48 * HOUR - timedelta(seconds=1), True, False),
        (100 * HOUR, None, False, False),
    ],
)
def test_a_rule_is_inactive_that_could_have_run_for_48_hours_and_did_not(
    database: Database,
    house: House,
    known_for: timedelta,
    last_ran: timedelta | None,
    enabled: bool | None,
    inactive: bool,
) -> None:
    rule = house.rule(name="Quiet", enabled=enabled, active_since=MORNING - known_for)
    if last_ran is not None:
        ran(house, rule, failed=1, ago=last_ran)
    result = check(database)
    assert result["byTenant"][0]["inactive_rules"] == ([str(rule)] if inactive else [])
    said = ("WARNING", "inactive", "The rule Quiet was not executed within 48 hours", False)
    assert alerts(database) == ([said] if inactive else [])


# --- told once --------------------------------------------------------------------------------------------------


def test_the_administrators_hear_of_each_trouble_once_until_it_clears(database: Database, house: House) -> None:
    second = house.user("admin")
    house.user("lawyer")
    House(database, "other")
    rule = house.rule(name="Escalate", active_since=LONG_AGO)
    ran(house, rule, succeeded=7, failed=3)
    result = check(database)
    assert (result["alertsRaised"], result["notificationsSent"]) == (2, 4)
    found = rows(database, "SELECT tenant_id, user_id, urgency, title, message FROM notifications.notifications")
    assert {(row.tenant_id, row.user_id) for row in found} == {("default", house.admin), ("default", second)}
    assert {(row.urgency, row.title) for row in found} == {
        (1, "CRITICAL: The rule Escalate failed in 3 of 10 executions within 24 hours"),
        (3, "INFO: 3 of 10 executions of rules failed within 24 hours"),
    }
    assert scalar(database, "SELECT count(*) FROM notifications.unplanned") == 0
    # As long as it lasts nobody is told again, whatever the figures.
    ran(house, rule, failed=1)
    assert check(database, now=MORNING + HOUR)["notificationsSent"] == 0
    # It recovers, and fails again.
    ran(house, rule, succeeded=200)
    result = check(database, now=MORNING + 2 * HOUR)
    assert (result["alertsRaised"], result["alertsCleared"]) == (0, 2)
    assert {over for *_, over in alerts(database)} == {True}
    ran(house, rule, failed=100)
    assert check(database, now=MORNING + 3 * HOUR)["notificationsSent"] == 4


def test_where_nothing_ran_an_alert_neither_comes_nor_goes(database: Database, house: House) -> None:
    rule = house.rule(active_since=LONG_AGO)
    ran(house, rule, failed=1)
    check(database)
    result = check(database, now=MORNING + 30 * HOUR)
    assert (result["total_executions"], result["alertsRaised"], result["alertsCleared"]) == (0, 0, 0)
    assert [over for *_, over in alerts(database)] == [False, False]


@pytest.mark.parametrize("how", ["disabled", "removed"])
def test_the_alerts_of_a_rule_that_goes_clear(database: Database, house: House, how: str) -> None:
    failing = house.rule(active_since=LONG_AGO)
    house.rule(name="Quiet", active_since=LONG_AGO)
    ran(house, failing, succeeded=0, failed=1)
    check(database)
    house.run(
        "UPDATE raw.automation_rules SET enabled = false" if how == "disabled" else "DELETE FROM raw.automation_rules"
    )
    check(database, now=MORNING + HOUR)
    assert {(level, over) for level, _, _, over in alerts(database)} == {
        ("CRITICAL", True),
        ("WARNING", True),
        ("INFO", False),
    }


def test_without_administrators_an_alert_is_recorded_and_told_to_nobody(database: Database, house: House) -> None:
    house.run("UPDATE raw.users SET role = 'lawyer'")
    ran(house, house.rule(active_since=LONG_AGO), failed=1)
    result = check(database)
    assert (result["alertsRaised"], result["notificationsSent"]) == (2, 0)


def test_a_tenant_that_is_named_is_the_only_one_judged(database: Database, house: House) -> None:
    other = House(database, "other")
    for one in (house, other):
        ran(one, one.rule(active_since=LONG_AGO), failed=1)
    assert check(database, tenant_id="other")["tenants"] == 1
    assert {row.tenant_id for row in rows(database, "SELECT tenant_id FROM automation_rules.health_alerts")} == {
        "other"
    }


def test_a_moment_that_is_given_is_judged_instead_of_the_present(database: Database, house: House) -> None:
    ran(house, house.rule(active_since=LONG_AGO), succeeded=3, ago=100 * HOUR)
    assert check(database)["total_executions"] == 0
    assert check(database, as_of=MORNING - 99 * HOUR, dry_run=True)["total_executions"] == 3


def test_a_dry_run_gives_the_figures_and_raises_clears_and_tells_nothing(database: Database, house: House) -> None:
    ran(house, house.rule(active_since=LONG_AGO), failed=1)
    dry = check(database, dry_run=True)
    assert (dry["degraded_rules"], dry["alertsRaised"], dry["notificationsSent"]) == (1, 0, 0)
    assert alerts(database) == []
    assert messages(database) == []
    assert scalar(database, "SELECT count(*) FROM platform.daily_jobs") == 0


# --- every morning ----------------------------------------------------------------------------------------------


def test_the_check_of_a_day_is_made_once_for_each_tenant_when_it_is_seven_there(
    database: Database, house: House
) -> None:
    new_york = House(database, "new-york", "America/New_York")
    for one in (house, new_york):
        ran(one, one.rule(active_since=LONG_AGO), failed=1)

    def judged(now: datetime) -> list[str]:
        result = check(database, now=now, everybody=False)
        return [entry["tenant_id"] for entry in result["byTenant"]]

    # It is evening in one place and morning in the other, of the day before.
    assert judged(MORNING - 12 * HOUR) == ["default", "new-york"]
    assert judged(MORNING - timedelta(seconds=1)) == []
    assert judged(MORNING) == ["default"]
    assert judged(MORNING + timedelta(minutes=15)) == []
    assert judged(MORNING + 8 * HOUR) == ["new-york"]
    assert judged(MORNING + 24 * HOUR) == ["default"]
    done = rows(database, "SELECT tenant_id, count(*) AS days FROM platform.daily_jobs GROUP BY 1")
    assert {row.tenant_id: row.days for row in done} == {"default": 3, "new-york": 2}


def test_a_check_by_hand_does_not_take_the_place_of_the_mornings(database: Database, house: House) -> None:
    house.rule()
    check(database, tenant_id="default")
    check(database)
    assert check(database, everybody=False)["tenants"] == 1


def test_whoever_has_no_rules_has_no_morning_until_alerts_of_former_rules_are_cleared(
    database: Database, house: House
) -> None:
    House(database, "other", timezone="Asia/Riyadh")
    rule = house.rule(active_since=LONG_AGO)
    ran(house, rule, failed=1)
    assert check(database, everybody=False)["tenants"] == 1
    house.run("DELETE FROM raw.automation_rules")
    cleared = check(database, now=MORNING + 24 * HOUR, everybody=False)
    assert (cleared["tenants"], cleared["alertsCleared"]) == (1, 1)
    house.run("DELETE FROM automation_rules.automation_logs")
    house.run("UPDATE automation_rules.health_alerts SET cleared_at = raised_at")
    assert check(database, now=MORNING + 48 * HOUR, everybody=False)["tenants"] == 0


@pytest.mark.parametrize("everybody", [False, True])
@pytest.mark.parametrize("ago", [100 * HOUR, -HOUR], ids=["past", "to come"])
def test_another_moment_is_only_looked_at_and_leaves_the_morning_to_its_check(
    database: Database, house: House, ago: timedelta, everybody: bool
) -> None:
    ran(house, house.rule(active_since=LONG_AGO), failed=1)
    check(database)
    raised = alerts(database)
    ran(house, house.rule(active_since=LONG_AGO), succeeded=100, ago=ago)
    with pytest.raises(UserError, match="Set dry_run to true, or leave as_of out"):
        check(database, everybody=everybody, as_of=MORNING - ago + HOUR)
    assert len(rows(database, "SELECT FROM platform.audit_log")) == 1
    looked = check(database, everybody=everybody, as_of=MORNING - ago + HOUR, dry_run=True)
    assert (looked["tenants"], looked["total_executions"]) == (1, 100 if ago > HOUR else 101)
    assert alerts(database) == raised
    # The default is those whose day it is, which has not been judged.
    assert check(database, everybody=False)["tenants"] == 1


@pytest.mark.parametrize("name", ["elsewhere", "*"])
def test_a_tenant_that_is_none_is_refused(database: Database, house: House, name: str) -> None:
    with pytest.raises(UserError, match=f"There is no tenant {re.escape(repr(name))}"):
        check(database, tenant_id=name)
    assert rows(database, "SELECT FROM platform.audit_log") == []


def test_a_step_that_is_tried_again_says_what_it_had_done(database: Database, house: House) -> None:
    ran(house, house.rule(active_since=LONG_AGO), failed=1)
    first = check(database, everybody=False, run_id="one")
    assert first["alertsRaised"] == 2
    assert check(database, everybody=False, run_id="one") == first


def test_a_check_that_lost_its_lease_writes_nothing(database: Database, house: House) -> None:
    ran(house, house.rule(active_since=LONG_AGO), failed=1)
    with job_lease(database, HEALTH.name, holder="one", seconds=300) as lease:
        house.run("UPDATE platform.job_leases SET expires_at = clock_timestamp()")
        with (
            job_lease(database, HEALTH.name, holder="other", seconds=300),
            pytest.raises(LeaseLostError),
        ):
            check_health(database, HealthScope(everybody=True), now=MORNING, run_id="one", lease=lease)
    assert alerts(database) == []


# --- the job, the schedule, the sensor --------------------------------------------------------------------------


def run_job(database: Database, **config: Any) -> dg.ExecuteInProcessResult:
    job = build_defs({"database": database}).resolve_job_def("automation_health_check_job")
    return job.execute_in_process(
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
        run_config={"ops": {"check_automation_health": {"config": config}}},
    )


def test_the_job_shows_the_document_and_writes_it_into_the_audit_log(database: Database, house: House) -> None:
    ran(house, house.rule(name="Escalate", active_since=LONG_AGO), failed=1)
    result = run_job(database, as_of="2026-01-10T04:00:00Z", dry_run=True)
    assert result.success
    [event] = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_OUTPUT]
    shown = {name: value.value for name, value in event.step_output_data.metadata.items()}
    assert (shown["tenants"], shown["failed_executions"], shown["success_rate"]) == (1, 1, 0.0)
    document = shown["result"]
    assert (document["success"], document["job"]) == (True, "automation-health-check")
    recorded = scalar(
        database, "SELECT details -> 'results' FROM platform.audit_log WHERE run_id = :id", id=result.run_id
    )
    assert document["results"] == recorded


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tenant_id": "default", "everybody": True}, "Name a tenant_id or set everybody to true, not both."),
        ({"as_of": "soon"}, "as_of is 'soon'"),
    ],
)
def test_a_wrong_option_fails_in_words(database: Database, config: dict[str, Any], said: str) -> None:
    result = run_job(database, **config)
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None
    assert said in str(event.step_failure_data.user_failure_data.description)


def at(instance: dg.DagsterInstance, database: Database, moment: datetime) -> tuple[int, str | None]:
    repository = build_defs().get_repository_def()
    with dg.build_schedule_context(
        instance=instance,
        repository_def=repository,
        scheduled_execution_time=moment,
        resources={"database": database},
    ) as context:
        data = repository.get_schedule_def("check_automation_health").evaluate_tick(context)
    return len(data.run_requests or []), data.skip_message


def test_the_schedule_starts_a_run_when_it_is_seven_somewhere_and_none_is_under_way(
    instance: dg.DagsterInstance, database: Database
) -> None:
    nobody = (0, "For no tenant it is past 07:00 of a day that was not looked at.")
    assert at(instance, database, MORNING) == nobody
    House(database, timezone="Asia/Kolkata").rule()
    seven = datetime(2026, 1, 10, 1, 30, tzinfo=UTC)
    assert at(instance, database, seven - timedelta(minutes=15)) == nobody
    assert at(instance, database, seven) == (1, None)
    run_id = a_run(instance, "automation_health_check_job", "STARTED")
    assert at(instance, database, seven) == (0, f"{HEALTH.name} is locked: run {run_id} is started.")


def test_the_sensor_starts_a_run_when_an_event_waits_or_an_execution_is_due(
    instance: dg.DagsterInstance, database: Database, house: House
) -> None:
    nothing = (0, "No event waits for a rule, and no execution is due.")
    assert tick(instance, "unanswered_events", database=database) == nothing
    house.event()
    assert tick(instance, "unanswered_events", database=database) == nothing
    house.rule()
    house.event()
    assert tick(instance, "unanswered_events", database=database) == (1, None)
    run_id = a_run(instance, "answer_events_job", "QUEUED")
    busy = (0, f"{ANSWER.name} is locked: run {run_id} is queued.")
    assert tick(instance, "unanswered_events", database=database) == busy
    a_run(instance, "answer_events_job", "SUCCESS")
    instance.delete_run(run_id)
    house.run("DELETE FROM automation_rules.unmatched")
    assert tick(instance, "unanswered_events", database=database) == nothing
    for status, wait in (("success", "0"), ("dead", "0"), ("failed", "1 hour"), ("failed", "0")):
        assert tick(instance, "unanswered_events", database=database) == nothing
        house.run(
            "INSERT INTO automation_rules.executions (tenant_id, rule_id, event_id, depth, status, next_attempt_at) "
            "VALUES ('default', gen_random_uuid(), gen_random_uuid(), 0, :status, "
            "clock_timestamp() + CAST(:wait AS interval))",
            status=status,
            wait=wait,
        )
    assert tick(instance, "unanswered_events", database=database) == (1, None)
    failed = a_run(instance, "answer_events_job", "FAILURE")
    started, reason = tick(instance, "unanswered_events", database=database)
    assert started == 0
    assert f"Run {failed} failed at " in str(reason)
