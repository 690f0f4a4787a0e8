"""Migrations build what is declared, from any version; a backup brings back what it holds, or changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config

from dossier_pipelines.commands import database as commands
from dossier_pipelines.definitions import build_defs
from dossier_pipelines.dossiers.snapshot_assets import SNAPSHOTS_KEY
from dossier_pipelines.migrations import runner
from dossier_pipelines.migrations.declared import SCHEMAS, create_declared
from dossier_pipelines.shared.database import Database, create_database, database_url, libpq_environment
from dossier_pipelines.shared.embedded_postgres import binary
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.conftest import execute_on_server
from dossier_pipelines_tests.processes import another_user, call, server_folder
from dossier_pipelines_tests.records import rows, scalar

# Everything that a schema is made of, in PostgreSQL's own words; Alembic's version table is its own affair.
CATALOG = {
    "relations": """
        SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.reloptions, obj_description(c.oid, 'pg_class')
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (:schemas) AND c.relname NOT LIKE 'alembic_version%'""",
    "columns": """
        SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
            a.attgenerated, l.collname, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE n.nspname = ANY (:schemas) AND a.attnum > 0 AND NOT a.attisdropped
            AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relname <> 'alembic_version'""",
    "constraints": """
        SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid), k.convalidated
        FROM pg_constraint AS k
        JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (:schemas) AND c.relname <> 'alembic_version'""",
    "indexes": """
        SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = ANY (:schemas) AND tablename <> 'alembic_version'""",
    "functions": """
        SELECT n.nspname, p.proname, pg_get_functiondef(p.oid)
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = ANY (:schemas)""",
    "triggers": """
        SELECT n.nspname, c.relname, pg_get_triggerdef(t.oid), t.tgenabled
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (:schemas) AND NOT t.tgisinternal""",
    "policies": """
        SELECT schemaname, tablename, policyname, roles, cmd, qual FROM pg_policies
        WHERE schemaname = ANY (:schemas)""",
    "row security": """
        SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (:schemas) AND c.relrowsecurity""",
    "views": "SELECT schemaname, viewname, definition FROM pg_views WHERE schemaname = ANY (:schemas)",
    "types": """
        SELECT n.nspname, t.typname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE n.nspname = ANY (:schemas) AND t.typname !~ 'alembic_version$'""",
}
KEPT = (
    *("platform.tenants", "ingestion.loads", "raw.dossiers", "raw.engagements", "platform.stale_marks"),
    "raw.automation_rules",
)


FILL = (
    "INSERT INTO platform.tenants SELECT 't' || n, 'Asia/Riyadh' FROM generate_series(1, :tenants) AS n",
    """
    INSERT INTO ingestion.loads (
        tenant_id, entity, source, started_at, outcome, rows_read, inserted, updated, unchanged, removed, rejected
    )
    SELECT tenant_id, 'dossiers', md5(tenant_id), now(), 'merged', 1, 1, 0, 0, 0, 0 FROM platform.tenants""",
    """
    INSERT INTO raw.dossiers (tenant_id, id, name, extra)
    SELECT tenant_id, gen_random_uuid(), E'L''Île \\\\ \\t "x" %s', '{"a": [1, null]}' FROM platform.tenants""",
    """
    INSERT INTO raw.engagements (tenant_id, id, dossier_id, occurred_at)
    SELECT tenant_id, gen_random_uuid(), id, '2024-02-29T23:59:59.999999+03' FROM raw.dossiers""",
    # Their check is a function of the same dump.
    """
    INSERT INTO raw.automation_rules (tenant_id, id, name, trigger_event, condition, actions)
    SELECT tenant_id, gen_random_uuid(), 'Tell', 'task_overdue', '$.days > 3', '[{"action": "webhook"}]'
    FROM platform.tenants""",
)


def catalog(database: Database) -> dict[str, set[str]]:
    """What a database's schema is, part by part."""
    return {
        part: {str(tuple(row)) for row in rows(database, sql, schemas=list(SCHEMAS))} for part, sql in CATALOG.items()
    }


def content(database: Database) -> dict[str, list[str]]:
    """The rows of the tables that `fill` fills."""
    return {table: sorted(str(row) for row in rows(database, f"SELECT * FROM {table}")) for table in KEPT}


def fill(database: Database, tenants: int = 1) -> None:
    """Write values of every kind: identities, arrays, JSON, moments, odd texts, and what triggers add."""
    with database.transaction() as connection:
        for statement in FILL:
            connection.execute(sa.text(statement), {"tenants": tenants} if ":tenants" in statement else {})


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    """A database without any schema of ours."""
    database = create_database(empty_database_url)
    yield database
    database.engine.dispose()


@pytest.fixture(scope="module")
def declared(server_url: str) -> Iterator[dict[str, set[str]]]:
    """The catalog of the declared schema, built without any migration."""
    name = f"declared_{os.getpid()}"
    execute_on_server(server_url, f'CREATE DATABASE "{name}"')
    database = create_database(database_url(server_url, database=name).render_as_string(hide_password=False))
    with database.transaction() as connection:
        create_declared(connection)
    yield catalog(database)
    database.engine.dispose()
    execute_on_server(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make this release one with a further version that runs the given SQL."""

    def add_version(sql: str) -> None:
        folder = tmp_path / "versions"
        folder.mkdir()
        newest = runner.newest_version()
        (folder / "tomorrow.py").write_text(
            f"from alembic import op\nrevision = 'tomorrow'\ndown_revision = {newest!r}\n\n\n"
            f"def upgrade():\n    op.execute({sql!r})\n",
            encoding="utf-8",
        )
        configure: Callable[..., Config] = runner._config

        def with_tomorrow(*arguments: Any) -> Config:
            config = configure(*arguments)
            shipped = Path(runner.__file__).parent / "versions"
            config.set_main_option("version_locations", os.pathsep.join([str(shipped), str(folder)]))
            return config

        monkeypatch.setattr(runner, "_config", with_tomorrow)

    return add_version


# Migrating


@pytest.mark.parametrize("version", [None, *runner.versions()])
def test_every_version_migrates_to_what_is_declared(
    empty: Database, declared: dict[str, set[str]], version: str | None
) -> None:
    if version is not None:
        runner.migrate(empty, version=version)
        assert runner.current_version(empty) == version
    runner.migrate(empty)
    assert runner.current_version(empty) == runner.newest_version()
    built = catalog(empty)
    for part, found in built.items():
        assert found == declared[part], part
    assert all(built[part] for part in built)


def test_rows_that_a_newer_version_would_not_take_are_mended(empty: Database) -> None:
    runner.migrate(empty, version="0008")
    with empty.transaction() as connection:
        for tenant_id, number, priority, hours in (
            *(("one", 1, "low", 100_000_000), ("one", 2, "low", 5), ("one", 3, "high", 100_000_000)),
            *(("two", 1, "low", 7), ("two", 2, "high", 8), ("two", 3, "high", 8), ("two", 4, "high", 9)),
        ):
            connection.execute(
                sa.text(
                    "INSERT INTO raw.sla_policies (tenant_id, id, priority, hours, source_hash) "
                    "VALUES (:tenant_id, :id, :priority, :hours, 40)"
                ),
                {"tenant_id": tenant_id, "id": uuid.UUID(int=number), "priority": priority, "hours": hours},
            )
        connection.execute(
            sa.text(
                "INSERT INTO ingestion.loads (tenant_id, entity, source, started_at, outcome, rows_read, inserted, "
                "updated, unchanged, removed, rejected) SELECT 'one', e, e, now(), 'merged', 1, 1, 0, 0, 0, 0 "
                "FROM unnest(ARRAY['litigation users', 'users']) AS e"
            )
        )
        for number, entity in enumerate(("litigation users", "users"), 2):
            connection.execute(
                sa.text(
                    "INSERT INTO ingestion.rejected_rows (tenant_id, entity, source, row_number, reason, raw_row, "
                    "load_id) VALUES ('one', :entity, 'users.csv', :number, 'bad', '{}', 1)"
                ),
                {"entity": entity, "number": number},
            )
    runner.migrate(empty)
    policies = rows(empty, "SELECT * FROM raw.sla_policies ORDER BY tenant_id, id")
    assert [(row.tenant_id, row.id.int, row.hours, row.source_hash) for row in policies] == [
        ("one", 2, 5, 40),
        ("one", 3, 87_600, 41),
        ("two", 1, 7, 40),
        ("two", 2, 8, 40),
    ]
    for table in ("rejected_rows", "loads"):
        found = rows(empty, f"SELECT tenant_id, entity FROM ingestion.{table} ORDER BY 1")
        assert [tuple(row) for row in found] == [("*", "litigation users"), ("one", "users")]


def test_what_a_rule_has_done_stays_done_and_tenants_that_were_removed_rest(empty: Database) -> None:
    runner.migrate(empty, version="0012")
    actions = [{"action": "webhook"}, {"action": "webhook", "title": "Late"}, {"action": "webhook"}]
    rule = uuid.UUID(int=1)
    with empty.transaction() as connection:
        for sql in (
            "INSERT INTO platform.tenants (tenant_id, timezone) VALUES ('here', 'UTC'), ('gone', 'UTC')",
            "INSERT INTO raw.tenants (tenant_id, id, name, timezone) VALUES ('here', :rule, 'Here', 'UTC')",
            "INSERT INTO raw.cases (tenant_id, id, case_number, created_at) "
            "SELECT t.tenant_id, :rule, 'C', now() FROM platform.tenants AS t",
            "INSERT INTO raw.automation_rules (tenant_id, id, name, trigger_event, actions) "
            "SELECT t.tenant_id, :rule, 'Tell', 'late', CAST(:actions AS jsonb) FROM platform.tenants AS t",
            "INSERT INTO automation_rules.executions (tenant_id, rule_id, event_id, depth, status, done) "
            "SELECT 'here', :rule, CAST(lpad(e.n, 32, '0') AS uuid), 0, e.status, CAST(e.done AS smallint[]) "
            "FROM (VALUES ('1', 'dead', '{2,3}'), ('2', 'failed', '{}'), ('3', 'success', '{1,2,3}')) "
            "AS e (n, status, done)",
            "INSERT INTO automation_rules.health_alerts (tenant_id, level, condition, said, raised_at) "
            "SELECT t.tenant_id, 'INFO', 'overall', 'x', now() FROM platform.tenants AS t",
        ):
            given = {"rule": rule, "actions": json.dumps(actions)}
            connection.execute(sa.text(sql), {name: given[name] for name in given if f":{name}" in sql})
    runner.migrate(empty)
    left = rows(
        empty,
        "SELECT x.event_id, array_agg(a.n ORDER BY a.n) FILTER (WHERE a.identity <> ALL (x.done)) AS places "
        "FROM automation_rules.executions AS x JOIN raw.automation_rules AS r ON r.tenant_id = x.tenant_id "
        "CROSS JOIN LATERAL automation_rules.single_actions(r.actions) AS a "
        "WHERE x.status <> 'success' GROUP BY 1 ORDER BY 1",
    )
    assert [(row.event_id.int, row.places) for row in left] == [(1, [1]), (2, [1, 2, 3])]
    assert rows(empty, "SELECT tenant_id FROM automation_rules.former_tenants") == [("gone",)]
    open_alerts = rows(empty, "SELECT tenant_id FROM automation_rules.health_alerts WHERE cleared_at IS NULL")
    assert open_alerts == [("here",)]


def test_migrating_again_changes_nothing(database: Database) -> None:
    fill(database)
    before = catalog(database), content(database)
    runner.migrate(database)
    assert (catalog(database), content(database)) == before


def test_processes_that_migrate_at_once_migrate_once(empty_database_url: str, declared: dict[str, set[str]]) -> None:
    databases = [create_database(empty_database_url) for _ in range(4)]
    with ThreadPoolExecutor(len(databases)) as pool:
        list(pool.map(runner.migrate, databases))
    assert catalog(databases[0]) == declared
    assert rows(databases[0], "SELECT version_num FROM platform.alembic_version") == [(runner.newest_version(),)]
    for database in databases:
        database.engine.dispose()


def test_a_migration_that_fails_leaves_the_version_before(
    database: Database, tomorrow: Callable[[str], None], declared: dict[str, set[str]]
) -> None:
    fill(database)
    before = content(database)
    tomorrow("CREATE TABLE dossiers.half_done (); SELECT 1 / 0")
    with pytest.raises(sa.exc.DataError):
        runner.migrate(database)
    assert catalog(database) == declared
    assert content(database) == before


def test_a_database_of_a_newer_release_is_refused(database: Database, new_database_url: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text("UPDATE platform.alembic_version SET version_num = '9999'"))
    for action in (runner.migrate, runner.migration_sql, runner.current_version):
        with pytest.raises(UserError, match="version 9999, and this release knows none newer than"):
            action(database)
    done = call("db", "migrate", settings={"DOSSIER_DATABASE_URL": new_database_url})
    assert done.returncode == 1
    assert done.stderr.startswith("dossier-pipelines: The database is at version 9999")


def test_the_dry_run_prints_sql_that_psql_can_run_and_touches_nothing(
    empty: Database, empty_database_url: str, declared: dict[str, set[str]], tmp_path: Path
) -> None:
    settings = {"DOSSIER_DATABASE_URL": empty_database_url, "DOSSIER_DATA_DIR": str(tmp_path / "data")}
    done = call("db", "migrate", "--dry-run", settings=settings)
    assert done.returncode == 0, done.stderr
    assert scalar(empty, "SELECT count(*) FROM pg_namespace WHERE nspname = ANY (:s)", s=list(SCHEMAS)) == 0
    assert not (tmp_path / "data").exists()
    psql = subprocess.run(
        [str(binary("psql")), "--no-psqlrc", "--set=ON_ERROR_STOP=1"],
        input=done.stdout,
        env={**os.environ, **libpq_environment(empty.engine.url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert psql.returncode == 0, psql.stderr
    assert catalog(empty) == declared
    again = call("db", "migrate", "--dry-run", settings=settings)
    assert again.stdout == "-- Nothing to do: the database is at the newest version.\n"
    assert "is at the newest version" in call("db", "migrate", settings=settings).stderr


def test_the_sql_of_the_dry_run_is_one_transaction(empty: Database) -> None:
    script = runner.migration_sql(empty).replace("COMMIT;", "SELECT 1 / 0; COMMIT;")
    psql = subprocess.run(
        [str(binary("psql")), "--no-psqlrc", "--set=ON_ERROR_STOP=1"],
        input=script,
        env={**os.environ, **libpq_environment(empty.engine.url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "division by zero" in psql.stderr
    assert scalar(empty, "SELECT count(*) FROM pg_namespace WHERE nspname = ANY (:s)", s=list(SCHEMAS)) == 0


def test_the_columns_that_the_ui_shows_are_those_of_the_database(database: Database) -> None:
    graph = build_defs().resolve_asset_graph()
    compared = 0
    for key in graph.get_all_asset_keys():
        shown = graph.get(key).metadata.get("dagster/column_schema")
        if shown is None:
            continue
        found = rows(
            database,
            """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(a.attrelid, a.attnum)
            FROM pg_attribute AS a WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped""",
            name=".".join(key.path),
        )
        named = {
            (column.name, column.type.replace(", ", ","), not column.constraints.nullable, column.description)
            for column in shown.columns
        }
        if key == SNAPSHOTS_KEY:
            # A view keeps neither what cannot be null nor comments.
            assert [(column.name, column.type.replace(", ", ",")) for column in shown.columns] == [
                (row.attname, row.format_type) for row in found
            ]
        else:
            assert named == {tuple(row) for row in found}
        compared += 1
    assert compared >= 8


# Backups


def test_a_restored_backup_is_what_was_backed_up(
    database: Database, new_database_url: str, declared: dict[str, set[str]], tmp_path: Path
) -> None:
    settings = {"DOSSIER_DATABASE_URL": new_database_url, "DOSSIER_DATA_DIR": str(tmp_path / "data")}
    fill(database, tenants=20)
    before = content(database)
    file = tmp_path / "a backup.dump"
    assert call("db", "backup", str(file), settings=settings).returncode == 0
    with database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM raw.dossiers"))
        connection.execute(sa.text("DROP VIEW dossiers.health_by_group"))
        connection.execute(sa.text("CREATE TABLE dossiers.of_a_later_version (LIKE raw.engagements INCLUDING ALL)"))
    database.engine.dispose()
    done = call("db", "restore", "--yes", str(file), settings=settings)
    assert done.returncode == 0, done.stderr
    assert content(database) == before
    assert catalog(database) == declared
    # What is numbered goes on where it was.
    newest = scalar(database, "SELECT max(load_id) FROM ingestion.loads")
    assert scalar(database, "SELECT nextval(pg_get_serial_sequence('ingestion.loads', 'load_id'))") == newest + 1


def test_the_oldest_supported_server_takes_the_backups_of_the_newest_programs(tmp_path: Path) -> None:
    oldest = {"PGSERVER_POSTGRES_VERSION": "16"}
    with server_folder() as folder, another_user(folder / "data", oldest) as server:
        database = create_database(server.url("postgres"))
        assert scalar(database, "SHOW server_version_num").startswith("16")
        runner.migrate(database)
        fill(database)
        before = content(database)
        runner.backup(database, tmp_path / "a.dump")
        with database.transaction() as connection:
            connection.execute(sa.text("DELETE FROM raw.dossiers"))
        runner.restore(database, tmp_path / "a.dump")
        assert content(database) == before
        database.engine.dispose()


def test_a_backup_is_restored_into_an_empty_database(
    database: Database, empty: Database, declared: dict[str, set[str]], tmp_path: Path
) -> None:
    fill(database)
    runner.backup(database, tmp_path / "a.dump")
    runner.restore(empty, tmp_path / "a.dump")
    assert content(empty) == content(database)
    assert catalog(empty) == declared


def test_restoring_asks_first(database: Database, new_database_url: str, tmp_path: Path) -> None:
    settings = {"DOSSIER_DATABASE_URL": new_database_url, "DOSSIER_DATA_DIR": str(tmp_path / "data")}
    runner.backup(database, tmp_path / "empty.dump")
    fill(database)
    before = content(database)
    done = call("db", "restore", str(tmp_path / "empty.dump"), settings=settings, answer="n\n")
    assert done.returncode == 1
    assert content(database) == before
    done = call("db", "restore", str(tmp_path / "empty.dump"), settings=settings, answer="y\n")
    assert done.returncode == 0, done.stderr
    assert content(database) != before


def cut(whole: bytes) -> bytes:
    return whole[: len(whole) * 2 // 3]


def scratched(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes(byte ^ 0x55 for byte in whole[middle : middle + 64]) + whole[middle + 64 :]


@pytest.mark.parametrize("damage", [cut, scratched, lambda whole: whole[:100], lambda whole: b"-- SQL", lambda _: b""])
def test_a_damaged_backup_changes_nothing(database: Database, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    fill(database, tenants=2_000)
    file = tmp_path / "a.dump"
    runner.backup(database, file)
    file.write_bytes(damage(file.read_bytes()))
    with database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM raw.engagements"))
    before = catalog(database), content(database)
    said = f"^(Restoring {file} failed: pg_restore said: |{file} is no backup that pg_restore can read)"
    with pytest.raises(UserError, match=said):
        runner.restore(database, file)
    assert (catalog(database), content(database)) == before


def test_a_backup_that_the_server_does_not_take_changes_nothing(database: Database, tmp_path: Path) -> None:
    role = f"gone_{uuid.uuid4().hex}"
    fill(database)
    with database.transaction() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role}"))
        connection.execute(sa.text(f"GRANT SELECT ON raw.dossiers TO {role}"))
    runner.backup(database, tmp_path / "a.dump")
    with database.transaction() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {role}; DROP ROLE {role}"))
    before = content(database)
    with pytest.raises(UserError, match=f'role "{role}" does not exist'):
        runner.restore(database, tmp_path / "a.dump")
    assert content(database) == before


def test_the_dump_of_another_database_is_not_taken_for_a_backup(
    database: Database, empty: Database, tmp_path: Path
) -> None:
    with empty.transaction() as connection:
        connection.execute(sa.text("CREATE SCHEMA raw; CREATE TABLE raw.engagements ()"))
    runner.backup(empty, tmp_path / "other.dump")
    fill(database)
    before = content(database)
    with pytest.raises(UserError, match="is no backup of this project; nothing was changed"):
        runner.restore(database, tmp_path / "other.dump")
    assert content(database) == before


def test_a_missing_backup_is_named(database: Database, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no backup .*nowhere\.dump"):
        runner.restore(database, tmp_path / "nowhere.dump")


def test_a_backup_to_a_full_disk_leaves_no_file_and_keeps_the_one_before(database: Database, tmp_path: Path) -> None:
    fill(database)
    file = tmp_path / "a.dump"
    file.write_bytes(b"the backup before")
    (tmp_path / ".a.dump.unfinished").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"The backup to .* failed: .*No space left on device"):
        runner.backup(database, file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.dump"]
    assert file.read_bytes() == b"the backup before"


def test_a_backup_into_a_folder_that_is_not_there_is_refused(new_database_url: str, tmp_path: Path) -> None:
    settings = {"DOSSIER_DATABASE_URL": new_database_url, "DOSSIER_DATA_DIR": str(tmp_path / "data")}
    done = call("db", "backup", str(tmp_path / "no" / "a.dump"), settings=settings)
    assert done.returncode == 1
    assert done.stderr == (
        f"dossier-pipelines: The backup cannot be written: the folder {tmp_path / 'no'} does not exist.\n"
    )


def test_a_backup_does_not_replace_what_is_no_file(database: Database, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UserError, match="is no file"):
            runner.backup(database, place)
    assert (tmp_path / "pipe").is_fifo()


def test_an_empty_database_has_nothing_to_back_up(empty_database_url: str, tmp_path: Path) -> None:
    settings = {"DOSSIER_DATABASE_URL": empty_database_url, "DOSSIER_DATA_DIR": str(tmp_path / "data")}
    done = call("db", "backup", str(tmp_path / "a.dump"), settings=settings)
    assert done.returncode == 1
    assert "There is nothing to back up" in done.stderr
    assert not (tmp_path / "a.dump").exists()


def test_an_older_database_is_backed_up_before_it_is_migrated(
    database: Database, new_database_url: str, tomorrow: Callable[[str], None], tmp_path: Path
) -> None:
    fill(database)
    before = content(database)
    shipped = runner.newest_version()
    tomorrow("CREATE TABLE dossiers.of_tomorrow (); DELETE FROM raw.dossiers")
    settings = Settings(database_url=new_database_url, data_directory=tmp_path / "data")
    commands.migrate(settings, dry_run=False, take_backup=True)
    assert runner.current_version(database) == "tomorrow"
    assert content(database) != before
    [file] = (tmp_path / "data" / "backups").iterdir()
    assert file.name.startswith("before-tomorrow-")

    runner.restore(database, file)
    assert runner.current_version(database) == shipped
    assert content(database) == before
    assert scalar(database, "SELECT to_regclass('dossiers.of_tomorrow')") is None
    runner.migrate(database)
    assert runner.current_version(database) == "tomorrow"


def test_a_migration_without_a_backup_takes_none(
    new_database_url: str, tomorrow: Callable[[str], None], tmp_path: Path
) -> None:
    tomorrow("CREATE TABLE dossiers.of_tomorrow ()")
    settings = Settings(database_url=new_database_url, data_directory=tmp_path / "data")
    commands.migrate(settings, dry_run=False, take_backup=False)
    assert not (tmp_path / "data").exists()


def test_without_a_place_for_the_backup_nothing_is_migrated(
    database: Database, new_database_url: str, tomorrow: Callable[[str], None], tmp_path: Path
) -> None:
    tomorrow("CREATE TABLE dossiers.of_tomorrow ()")
    (tmp_path / "data").touch()
    settings = Settings(database_url=new_database_url, data_directory=tmp_path / "data")
    with pytest.raises(UserError, match=r"The backup folder .* cannot be made"):
        commands.migrate(settings, dry_run=False, take_backup=True)
    assert runner.current_version(database) != "tomorrow"


# Resetting


@pytest.mark.parametrize(
    ("options", "answer", "emptied"),
    [((), "n\n", False), ((), "", False), ((), "y\n", True), (("--yes",), "", True)],
    ids=["no", "no answer", "yes", "--yes"],
)
def test_reset_asks_and_then_builds_everything_empty(
    database: Database,
    new_database_url: str,
    declared: dict[str, set[str]],
    options: tuple[str, ...],
    answer: str,
    emptied: bool,
) -> None:
    fill(database)
    with database.transaction() as connection:
        connection.execute(sa.text("CREATE TABLE public.theirs AS SELECT 1 AS one"))
    database.engine.dispose()
    done = call("db", "reset", *options, settings={"DOSSIER_DATABASE_URL": new_database_url}, answer=answer)
    assert done.returncode == (0 if emptied else 1), done.stderr
    assert (content(database) == {table: [] for table in KEPT}) is emptied
    assert catalog(database) == declared
    assert scalar(database, "SELECT one FROM public.theirs") == 1


def test_what_others_built_on_our_tables_is_not_dropped_unasked(database: Database, tmp_path: Path) -> None:
    fill(database)
    runner.backup(database, tmp_path / "a.dump")
    with database.transaction() as connection:
        connection.execute(sa.text('CREATE VIEW public."Their view" AS SELECT * FROM dossiers.health_scores'))
    for action in (lambda: runner.reset(database), lambda: runner.restore(database, tmp_path / "a.dump")):
        with pytest.raises(UserError, match=r'public\."Their view"'):
            action()
    assert scalar(database, 'SELECT count(*) FROM public."Their view"') == 0
    assert scalar(database, "SELECT count(*) FROM raw.dossiers") == 1
