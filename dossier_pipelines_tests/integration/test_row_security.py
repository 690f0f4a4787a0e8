"""An analyst's role reads the rows of its tenants, whatever it tries; the pipelines' own role reads all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dossier_pipelines.shared.analysts import grant_reading, tenants_named
from dossier_pipelines.shared.database import Database, create_database
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.records import rows, scalar

# Every table and view with a tenant that somebody may read.
READABLE = """
SELECT concat(quote_ident(n.nspname), '.', quote_ident(c.relname)) AS name
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT c.relispartition AND c.relname <> 'analysts'
ORDER BY 1"""
TENANTS = ("eu-at", "eu-be")
FILL = (
    "INSERT INTO platform.tenants (tenant_id, timezone) VALUES (:tenant_id, 'UTC')",
    "INSERT INTO raw.tenants (tenant_id, id, name, timezone) VALUES (:tenant_id, gen_random_uuid(), :tenant_id, 'UTC')",
    "INSERT INTO raw.users (tenant_id, id, name, email) VALUES (:tenant_id, :id, 'Somebody', 'somebody@example.org')",
    "INSERT INTO raw.cases (tenant_id, id, case_number, created_at) VALUES (:tenant_id, :id, '1', '2020-01-01')",
    "INSERT INTO raw.tasks (tenant_id, id, case_id, title, status, created_at, due_date) "
    "VALUES (:tenant_id, :id, :id, 'Answer', 'pending', '2020-01-01', '2020-02-01')",
    "INSERT INTO litigation.task_flags (tenant_id, task_id, overdue_since, flagged_at) "
    "VALUES (:tenant_id, :id, '2020-02-01', '2020-02-02')",
    "INSERT INTO litigation.daily_metrics (tenant_id, day, metric, value) "
    "VALUES (:tenant_id, '2020-02-01', 'case_count', 1)",
    "INSERT INTO litigation.anomalies (tenant_id, metric, day, detector, value, expected, low, high, "
    "deviation) VALUES (:tenant_id, 'case_count', '2020-02-01', 'weekday_robust', 1, 2, 2, 3, -1)",
    "INSERT INTO platform.events (tenant_id, type, entity_type, entity_id, payload, occurred_at, dedupe_key) "
    "VALUES (:tenant_id, 'task_overdue', 'task', :id, '{}', '2020-02-02', 'once')",
    "INSERT INTO platform.audit_log (tenant_id, action_type, entity_type, details) "
    "VALUES (:tenant_id, 'task_overdue', 'task', '{}')",
    "INSERT INTO notifications.notifications (tenant_id, user_id, kind, urgency, title, message, metadata, dedupe_key, "
    "created_at) VALUES (:tenant_id, :id, 'deadlines', 1, 'Due', 'Due', '{}', 'once', '2020-02-02')",
    "INSERT INTO raw.dossiers (tenant_id, id, name) VALUES (:tenant_id, :id, 'Sweden')",
    "INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at) VALUES (:tenant_id, :id, :id, '2020-01-05')",
    "INSERT INTO raw.commitments (tenant_id, id, dossier_id, status) VALUES (:tenant_id, :id, :id, 'pending')",
    "INSERT INTO raw.documents (tenant_id, id, dossier_id) VALUES (:tenant_id, :id, :id)",
    "INSERT INTO raw.courts (tenant_id, id, name) VALUES (:tenant_id, :id, 'High Court')",
    "INSERT INTO raw.hearings (tenant_id, id, case_id, hearing_date, status) "
    "VALUES (:tenant_id, :id, :id, '2020-03-01', 'scheduled')",
    "INSERT INTO raw.case_documents (tenant_id, id, case_id, uploaded_at) VALUES (:tenant_id, :id, :id, '2020-03-01')",
    "INSERT INTO raw.sla_policies (tenant_id, id, priority, hours) VALUES (:tenant_id, :id, 'low', 24)",
    "INSERT INTO raw.automation_rules (tenant_id, id, name, trigger_event, actions) "
    """VALUES (:tenant_id, :id, 'Tell', 'task_late', '[{"action": "webhook"}]')""",
    "INSERT INTO ingestion.loads (tenant_id, entity, source, started_at, outcome, rows_read, inserted, updated, "
    "unchanged, removed, rejected) VALUES (:tenant_id, 'cases', 'cases.csv', now(), 'merged', 1, 0, 0, 0, 0, 1)",
    "INSERT INTO ingestion.rejected_rows (tenant_id, entity, source, row_number, reason, raw_row, load_id) "
    """VALUES (:tenant_id, 'cases', 'cases.csv', 2, 'id is missing', '{"name": "Somebody"}', 1)""",
    "INSERT INTO platform.daily_jobs (tenant_id, job, day, run_id, done_at) "
    "VALUES (:tenant_id, 'reminders', '2020-02-02', 'run', '2020-02-02')",
    "INSERT INTO platform.job_alerts (tenant_id, job, condition, said) "
    "VALUES (:tenant_id, 'reminders', 'failing', 'It failed.')",
    "INSERT INTO platform.job_leases (tenant_id, job, fencing_number) VALUES (:tenant_id, 'reminders', 1)",
    "INSERT INTO platform.stale_marks (tenant_id, consumer, dossier_id, entity, record_ids) "
    "VALUES (:tenant_id, 'health', :id, 'engagements', '{}')",
    "INSERT INTO platform.audit_log (tenant_id, action_type, entity_type, details) VALUES (:tenant_id, "
    """'background_job_execution', 'job', '{"job_name": "analytics_snapshot_job", "status": "SUCCESS"}')""",
    "INSERT INTO notifications.deliveries (tenant_id, notification_id, channel, status, next_attempt_at, dedupe_key, "
    "day) VALUES (:tenant_id, :id, 'email', 'queued', '2020-02-02', 'once', '2020-02-02')",
    "INSERT INTO notifications.daily_counts (tenant_id, user_id, day, counted) "
    "VALUES (:tenant_id, :id, '2020-02-02', 1)",
    "INSERT INTO automation_rules.automation_logs (tenant_id, rule_id, rule_name, trigger_event, event_id, status, "
    "actions_executed, executed_at) "
    "VALUES (:tenant_id, :id, 'Tell', 'task_late', :id, 'success', '[]', '2020-02-02')",
    "INSERT INTO automation_rules.executions (tenant_id, rule_id, event_id, depth, status) "
    "VALUES (:tenant_id, :id, :id, 0, 'success')",
    "INSERT INTO automation_rules.health_alerts (tenant_id, level, condition, said, raised_at) "
    "VALUES (:tenant_id, 'INFO', 'overall', 'Some failed.', '2020-02-02')",
    "INSERT INTO automation_rules.unmatched (tenant_id, event_id, depth) VALUES (:tenant_id, :id, 0)",
    "INSERT INTO litigation.metric_reach (tenant_id, newest_day, grace) VALUES (:tenant_id, '2020-02-02', '1 hour')",
    "INSERT INTO litigation.metric_marks (tenant_id) VALUES (:tenant_id)",
    "INSERT INTO litigation.task_checks (tenant_id, checked_since, checked_until) "
    "VALUES (:tenant_id, '2020-02-02', '2020-02-02')",
    "INSERT INTO dossiers.commitment_stats (tenant_id, dossier_id, total_commitments, active_commitments, "
    "overdue_commitments, fulfilled_commitments, upcoming_commitments, fulfillment_rate) "
    "VALUES (:tenant_id, :id, 1, 1, 0, 0, 0, 0)",
    "INSERT INTO dossiers.engagement_stats (tenant_id, dossier_id, total_engagements_365d, recent_engagements_90d, "
    "engagement_frequency_score) VALUES (:tenant_id, :id, 1, 1, 1)",
    "INSERT INTO dossiers.health_refreshes (tenant_id, mode, as_of, settings_version, refreshed, changed, drifted, "
    "drifted_dossiers) VALUES (:tenant_id, 'full', '2020-02-02', 'v', 1, 1, 0, '{}')",
    "INSERT INTO dossiers.health_scores (tenant_id, dossier_id, engagement_frequency, commitment_fulfillment, recency, "
    "band, factors, settings_version, as_of, stale_at, calculated_at) "
    "VALUES (:tenant_id, :id, 1, 1, 1, 'good', '[]', 'v', '2020-02-02', '2020-02-03', '2020-02-02')",
    "INSERT INTO dossiers.health_settings (tenant_id, version, dossier_type, weight_engagement, weight_commitment, "
    "weight_recency, yearly_target, min_engagements, min_commitments, fresh_days, recent_days, distant_days, "
    "fresh_points, recent_points, distant_points, silent_points, excellent_from, good_from, fair_from) "
    "VALUES (:tenant_id, 'v', '', 0.4, 0.4, 0.2, 1, 1, 1, 1, 2, 3, 3, 2, 1, 0, 80, 60, 40)",
    "INSERT INTO dossiers.relationship_alerts (tenant_id, dossier_id, kind, raised_at) "
    "VALUES (:tenant_id, :id, 'silence', '2020-02-02')",
    "INSERT INTO dossiers.snapshot_days (tenant_id, day, year) VALUES (:tenant_id, '2020-02-02', '2020-01-01')",
    "INSERT INTO dossiers.snapshot_marks (tenant_id, dossier_id) VALUES (:tenant_id, :id)",
    "INSERT INTO dossiers.snapshot_reach (tenant_id, newest_day) VALUES (:tenant_id, '2020-02-02')",
    "INSERT INTO dossiers.snapshot_spans (tenant_id, dossier_id, year, first_day, last_day, total_engagements_365d, "
    "recent_engagements_90d, engagement_frequency_score, total_commitments, active_commitments, overdue_commitments, "
    "fulfilled_commitments, upcoming_commitments, fulfillment_rate, recency, band, factors, settings_version) "
    "VALUES (:tenant_id, :id, '2020-01-01', '2020-02-02', '2020-02-02', 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 'good', '[]', "
    "'v')",
)
# What belongs to no tenant: of jobs for all of them, and of rows that name none that is known.
NOBODYS = (
    "INSERT INTO platform.audit_log (tenant_id, action_type, entity_type, details) "
    "VALUES ('*', 'background_job_execution', 'job', '{}')",
    "INSERT INTO platform.job_alerts (tenant_id, job, condition, said) "
    "VALUES ('*', 'reminders', 'failing', 'It failed.')",
    "INSERT INTO platform.job_leases (tenant_id, job, fencing_number) VALUES ('*', 'reminders', 1)",
    "INSERT INTO ingestion.rejected_rows (tenant_id, entity, source, row_number, reason, raw_row, load_id) "
    """VALUES ('*', 'cases', 'cases.csv', 3, 'tenant_id is missing', '{"name": "Somebody"}', 1)""",
    "INSERT INTO ingestion.loads (tenant_id, entity, source, started_at, outcome, rows_read, inserted, updated, "
    "unchanged, removed, rejected) VALUES ('*', 'cases', 'cases.csv', now(), 'merged', 4, 0, 0, 0, 0, 4)",
)


@pytest.fixture
def filled(database: Database) -> Database:
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE dossiers.snapshot_spans_2020 PARTITION OF dossiers.snapshot_spans "
            "FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')"
        )
        for number, tenant_id in enumerate((*TENANTS, "eu-cy"), 1):
            values = {"tenant_id": tenant_id, "id": f"00000000-0000-4000-8000-{number:012}"}
            for statement in FILL:
                clause = sa.text(re.sub(r'": ', r'"\\: ', statement))
                connection.execute(clause, {name: values[name] for name in clause.compile().params})
        for statement in NOBODYS:
            connection.exec_driver_sql(statement)
    return database


@pytest.fixture
def role(filled: Database) -> Iterator[str]:
    # Roles are the server's, databases are the test's.
    name = f"analyst_{scalar(filled, 'SELECT oid FROM pg_database WHERE datname = current_database()')}"
    with filled.transaction() as connection:
        connection.exec_driver_sql(f'CREATE ROLE "{name}" LOGIN')
    yield name
    with filled.transaction() as connection:
        connection.exec_driver_sql(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


@contextmanager
def as_role(database: Database, role: str) -> Iterator[Database]:
    url = database.engine.url.set(username=role)
    other = create_database(url.render_as_string(hide_password=False))
    try:
        yield other
    finally:
        other.engine.dispose()


def seen(database: Database, name: str) -> set[str]:
    return {row.tenant_id for row in rows(database, f"SELECT DISTINCT tenant_id FROM {name}")}


def test_an_analyst_sees_the_rows_of_its_tenants_in_every_table_and_view(filled: Database, role: str) -> None:
    # Those whose rules answer are none of these.
    former = "automation_rules.former_tenants"
    readable = [row.name for row in rows(filled, READABLE) if row.name != former]
    everything = {name: seen(filled, name) for name in readable}
    assert {name: tenants for name, tenants in everything.items() if not tenants >= {*TENANTS, "eu-cy"}} == {}
    assert grant_reading(filled, role, [TENANTS[0]]) == len(readable) + 1
    with as_role(filled, role) as analyst:
        found = {name: seen(analyst, name) for name in readable}
    assert {name: tenants for name, tenants in found.items() if tenants != {TENANTS[0]}} == {}
    with filled.transaction() as connection:
        # They are of no other desk, which would have loads of its own for them.
        connection.exec_driver_sql("DELETE FROM ingestion.loads")
        connection.exec_driver_sql("DELETE FROM raw.tenants")
    assert seen(filled, former) >= {*TENANTS, "eu-cy"}
    with as_role(filled, role) as analyst:
        assert seen(analyst, former) == {TENANTS[0]}
        assert seen(analyst, "automation_rules.answering_rules") == set()


def test_an_analyst_of_all_tenants_sees_what_belongs_to_none_too(filled: Database, role: str) -> None:
    grant_reading(filled, role, ["*"])
    readable = [row.name for row in rows(filled, READABLE)]
    with as_role(filled, role) as analyst:
        found = {name: seen(analyst, name) for name in readable}
    assert found == {name: seen(filled, name) for name in readable}
    assert {name for name, tenants in found.items() if "*" in tenants} == {
        "platform.audit_log",
        "platform.job_alerts",
        "platform.job_leases",
        "ingestion.loads",
        "ingestion.rejected_rows",
    }


@pytest.mark.parametrize(
    "attempt",
    [
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SET row_security = off",
        "INSERT INTO platform.analysts VALUES (current_user, '*')",
        "SELECT * FROM platform.analysts",
        "UPDATE raw.tasks SET title = 'changed'",
        "INSERT INTO raw.tasks SELECT * FROM raw.tasks",
        "DELETE FROM platform.audit_log",
        "CREATE FUNCTION platform.visible_tenants() RETURNS SETOF text LANGUAGE sql AS 'SELECT ''*'''",
        "ALTER TABLE raw.tasks DISABLE ROW LEVEL SECURITY",
    ],
)
def test_an_analyst_cannot_help_itself_to_more(filled: Database, role: str, attempt: str) -> None:
    grant_reading(filled, role, [TENANTS[0]])
    with as_role(filled, role) as analyst, analyst.engine.connect() as connection:
        try:
            connection.exec_driver_sql(attempt)
            found = connection.exec_driver_sql("SELECT DISTINCT tenant_id FROM raw.tasks").scalars().all()
        except DBAPIError:
            connection.rollback()
            found = connection.exec_driver_sql("SELECT DISTINCT tenant_id FROM raw.tasks").scalars().all()
    assert found == [TENANTS[0]]


def test_a_partition_cannot_be_read_past_its_table(filled: Database, role: str) -> None:
    assert scalar(filled, "SELECT count(*) FROM dossiers.snapshot_spans_2020") == 3
    grant_reading(filled, role, [TENANTS[0]])
    with as_role(filled, role) as analyst, pytest.raises(DBAPIError, match="permission denied"):
        rows(analyst, "SELECT * FROM dossiers.snapshot_spans_2020")


def test_granting_again_replaces_what_was_granted(filled: Database, role: str) -> None:
    grant_reading(filled, role, ["*"])
    with as_role(filled, role) as analyst:
        assert seen(analyst, "platform.audit_log") == {*TENANTS, "eu-cy", "*"}
    grant_reading(filled, role, [TENANTS[1]])
    with as_role(filled, role) as analyst:
        assert seen(analyst, "platform.audit_log") == {TENANTS[1]}


def test_a_role_that_nobody_granted_anything_reads_nothing(filled: Database, role: str) -> None:
    with as_role(filled, role) as analyst, pytest.raises(DBAPIError, match="permission denied"):
        rows(analyst, "SELECT * FROM raw.tasks")


def test_what_cannot_be_granted_is_refused_and_nothing_granted(filled: Database, role: str) -> None:
    for wrong, tenants, message in (
        ("nobody", [TENANTS[0]], "There is no database role 'nobody'. Create it first: CREATE ROLE"),
        ("postgres", [TENANTS[0]], "The role 'postgres' is a superuser"),
        (role, ["elsewhere"], "There is no tenant 'elsewhere'"),
    ):
        with pytest.raises(UserError, match=message):
            grant_reading(filled, wrong, tenants)
    assert rows(filled, "SELECT * FROM platform.analysts") == []
    for names, everybody in (([], False), (["eu-at"], True)):
        with pytest.raises(UserError, match="Name the tenants"):
            tenants_named(names, everybody=everybody)


def test_every_view_is_read_with_the_rights_of_who_reads(database: Database) -> None:
    views = rows(
        database,
        "SELECT c.oid::regclass AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('v', 'm') AND n.nspname !~ '^(pg_|information_schema)' "
        "AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)",
    )
    assert [row.name for row in views] == []
