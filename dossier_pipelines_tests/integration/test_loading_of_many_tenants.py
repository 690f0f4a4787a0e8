"""One source of many tenants: each row is its tenant's, and a bad tenant is nobody else's trouble."""

from __future__ import annotations

import csv
import io
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dossier_pipelines.ingestion.load import LoadResult
from dossier_pipelines.litigation.assets import RAW_ASSETS
from dossier_pipelines.litigation.entities import ENTITIES
from dossier_pipelines.litigation.source import litigation_source
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import read_settings
from dossier_pipelines.shared.failures import SourceError, UserError
from dossier_pipelines_tests.records import published, rows, scalar, write_files

TENANTS = """id,name,timezone,settings
riyadh,Riyadh Desk,Asia/Riyadh,"{""colour"": ""green""}"
york,York Desk,America/New_York,
"""
CASES = """tenant_id,id,case_number,created_at
riyadh,c1,R 1,2025-01-05
york,c1,Y 1,2025-01-05T09:00:00
"""
TASKS = """tenant_id,id,case_id,title,status,priority,created_at,due_date,completed_at
riyadh,t1,c1,Reply,Pending,HIGH,2025-01-05 10:00,2025-02-05,
york,t1,c1,Reply,completed,low,2025-01-05 10:00,2025-02-05T12:00:00Z,2025-01-06
"""


def load(database: Database, folder: Path, **environ: str) -> dict[str, LoadResult | None]:
    settings = read_settings({"DOSSIER_LITIGATION_SOURCE": str(folder)} | environ)
    source = litigation_source(settings)
    assert source is not None
    return {name: source.configured.load(database, entity, known=ENTITIES) for name, entity in ENTITIES.items()}


def reasons(database: Database) -> list[tuple[str, str, int, str]]:
    return [
        (row.tenant_id, row.entity, row.row_number, row.reason)
        for row in rows(database, "SELECT * FROM ingestion.rejected_rows ORDER BY entity, row_number")
    ]


def loaded(database: Database, table: str) -> list[Any]:
    return rows(database, f"SELECT * FROM raw.{table} ORDER BY tenant_id, source_key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path, {"tenants.csv": TENANTS, "cases.csv": CASES, "tasks.csv": TASKS})


def test_every_row_is_its_tenants_and_local_times_are_its_own(database: Database, folder: Path) -> None:
    load(database, folder)
    zones = {row.tenant_id: row.timezone for row in rows(database, "SELECT * FROM platform.tenants")}
    assert zones == {"riyadh": "Asia/Riyadh", "york": "America/New_York"}
    riyadh, york = loaded(database, "tasks")
    assert riyadh.id == york.id
    assert (riyadh.tenant_id, riyadh.priority, riyadh.status) == ("riyadh", "high", "pending")
    assert riyadh.created_at == datetime(2025, 1, 5, 7, tzinfo=UTC)
    assert york.created_at == datetime(2025, 1, 5, 15, tzinfo=UTC)
    assert riyadh.due_date == datetime(2025, 2, 4, 21, tzinfo=UTC)
    assert york.due_date == datetime(2025, 2, 5, 12, tzinfo=UTC)
    assert loaded(database, "tenants")[0].settings == {"colour": "green"}
    assert reasons(database) == []


def test_the_same_files_again_change_nothing_and_a_changed_row_only_its_own(database: Database, folder: Path) -> None:
    load(database, folder)
    before = rows(database, "SELECT t.xmin, t.* FROM raw.tasks AS t")
    again = load(database, folder)["tasks"]
    assert again is not None
    assert (again.unchanged, again.inserted, again.updated) == (2, 0, 0)
    assert rows(database, "SELECT t.xmin, t.* FROM raw.tasks AS t") == before
    write_files(folder, {"tasks.csv": TASKS.replace("york,t1,c1,Reply", "york,t1,c1,Answer")})
    changed = load(database, folder)["tasks"]
    assert changed is not None
    assert (changed.unchanged, changed.updated) == (1, 1)
    assert [row.title for row in loaded(database, "tasks")] == ["Reply", "Answer"]


def test_a_tenant_without_a_time_zone_is_set_aside_with_its_records_and_nobody_elses(
    database: Database, folder: Path
) -> None:
    write_files(folder, {"tenants.csv": TENANTS.replace("America/New_York", "")})
    load(database, folder)
    assert reasons(database) == [
        ("*", "cases", 3, "tenant_id 'york' is no known tenant"),
        ("*", "tasks", 3, "tenant_id 'york' is no known tenant; case_id 'c1' refers to no record of cases"),
        ("*", "tenants", 3, "timezone is missing"),
    ]
    assert [row.tenant_id for row in loaded(database, "tasks")] == ["riyadh"]
    load(database, write_files(folder, {"tenants.csv": TENANTS}))
    assert reasons(database) == []
    assert [row.tenant_id for row in loaded(database, "tasks")] == ["riyadh", "york"]


def test_what_names_no_known_tenant_is_nobodys_whoever_loads_it(database: Database, folder: Path) -> None:
    users = "tenant_id,id,name\nyork,u1,Maria Rossi\n,u2,Maria Rossi\nriyadh,u3,Maria Rossi\nriyadh,u4,Noor,Extra\n"
    write_files(folder, {"tenants.csv": TENANTS.replace("America/New_York", ""), "users.csv": users})
    load(database, folder, DOSSIER_TENANT="riyadh", DOSSIER_TIMEZONE="UTC")
    found = rows(
        database, "SELECT * FROM ingestion.rejected_rows WHERE entity = 'litigation users' ORDER BY row_number"
    )
    assert [(row.tenant_id, row.row_number) for row in found] == [("*", 2), ("*", 3), ("*", 5)]
    assert set(found[-1].raw_row) == {"line"}
    # How much there was of all tenants is not that tenant's to know, either.
    assert rows(database, "SELECT DISTINCT tenant_id FROM ingestion.loads") == [("*",)]


def test_what_was_not_removed_is_said_where_the_load_is_looked_at(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(database, write_files(folder, {"tasks.csv": f"{TASKS}york,t2,c1,Other,pending,low,2025-01-05,,\n"}))
    write_files(folder, {"tasks.csv": TASKS})
    monkeypatch.setenv("DOSSIER_LITIGATION_SOURCE", str(folder))
    monkeypatch.setenv("DOSSIER_FULL_REFRESH", "true")
    with dg.DagsterInstance.ephemeral() as instance:
        [tasks] = [asset for asset in RAW_ASSETS if asset.key.path == ["raw", "tasks"]]
        result = dg.materialize([tasks], resources={"database": database}, instance=instance)
        said = [one.user_message for one in instance.all_logs(result.run_id) if one.level == logging.WARNING]
    metadata = result.asset_materializations_for_node("raw__tasks")[0].metadata
    assert metadata["not_removed"].value == {"york": 1}
    assert said == [
        "Of 1 tenants a larger share of the tasks is gone from the source than DOSSIER_MAX_REMOVED_SHARE allows, and "
        "theirs were not removed: york (1)."
    ]
    assert scalar(database, "SELECT count(*) FROM raw.tasks") == 3


def test_a_bad_row_of_a_tenant_that_is_known_is_its_own(database: Database, folder: Path) -> None:
    load(database, folder)
    write_files(
        folder, {"tenants.csv": TENANTS.replace("America/New_York", ""), "tasks.csv": f"{TASKS}york,t3,c1,,,,,,\n"}
    )
    load(database, folder)
    assert {(tenant_id, entity) for tenant_id, entity, *_ in reasons(database)} == {
        ("york", "tenants"),
        ("york", "tasks"),
    }


def test_no_tenant_is_called_as_all_of_them_are(database: Database, folder: Path) -> None:
    load(database, write_files(folder, {"tenants.csv": f"{TENANTS}*,Star,UTC,\n"}))
    assert reasons(database) == [("*", "tenants", 4, "id '*' stands for all tenants")]
    assert scalar(database, "SELECT count(*) FROM platform.tenants") == 2


def test_a_tenant_of_which_too_many_rows_are_bad_is_refused_alone(database: Database, folder: Path) -> None:
    bad = "".join(f"york,b{number},c1,Bad,unheard of,low,2025-01-05,,\n" for number in range(3))
    write_files(folder, {"tasks.csv": TASKS + bad})
    result = load(database, folder)["tasks"]
    assert result is not None
    assert (result.inserted, result.rejected) == (1, 4)
    assert [row.tenant_id for row in loaded(database, "tasks")] == ["riyadh"]
    found = reasons(database)
    assert {tenant for tenant, *_ in found} == {"york"}
    assert found[0][2:] == (3, "not merged, since 3 of its tenant's 4 rows are bad")
    assert found[1][3] == "status 'unheard of' is not one of pending, in_progress, completed, cancelled"


def test_a_source_that_is_wrong_for_everybody_is_refused(database: Database, folder: Path) -> None:
    write_files(folder, {"tasks.csv": TASKS.replace("Pending", "unheard of").replace("completed", "neither")})
    with pytest.raises(UserError, match="2 of 2 rows are bad"):
        load(database, folder)
    assert loaded(database, "tasks") == []


def test_the_column_that_says_whose_a_row_is_must_be_there(database: Database, folder: Path) -> None:
    write_files(folder, {"cases.csv": CASES.replace("tenant_id", "whose")})
    with pytest.raises(SourceError, match="the column 'tenant_id', which tells whose a row is, is missing"):
        load(database, folder)
    mapping = folder / "mapping.toml"
    mapping.write_text('[cases.columns]\ntenant_id = "whose"\n')
    load(database, folder, DOSSIER_LITIGATION_MAPPING=str(mapping))
    assert [row.tenant_id for row in loaded(database, "cases")] == ["riyadh", "york"]


def test_what_the_source_no_longer_has_is_removed_in_its_tenants_only(database: Database, folder: Path) -> None:
    load(database, folder)
    write_files(folder, {"tasks.csv": TASKS.splitlines()[0] + "\n" + TASKS.splitlines()[1] + "\n"})
    load(database, folder, DOSSIER_FULL_REFRESH="true")
    assert [row.tenant_id for row in loaded(database, "tasks")] == ["riyadh", "york"]
    extra = TASKS + "york,t2,c1,Other,pending,low,2025-01-05,,\n"
    load(database, write_files(folder, {"tasks.csv": extra}), DOSSIER_FULL_REFRESH="true")
    load(
        database, write_files(folder, {"tasks.csv": TASKS}), DOSSIER_FULL_REFRESH="true", DOSSIER_MAX_REMOVED_SHARE="1"
    )
    assert scalar(database, "SELECT count(*) FROM raw.tasks") == 2


def test_a_tenant_that_loses_too_much_at_once_keeps_it_and_nobody_else(database: Database, folder: Path) -> None:
    header = TASKS.splitlines()[0]
    lines = {
        tenant_id: [f"{tenant_id},t{number},c1,Reply,pending,low,2025-01-05,," for number in range(count)]
        for tenant_id, count in (("riyadh", 200), ("york", 20))
    }
    load(database, write_files(folder, {"tasks.csv": "\n".join([header, *lines["riyadh"], *lines["york"]])}))
    changed = lines["york"][0].replace("Reply", "Answer")
    write_files(folder, {"tasks.csv": "\n".join([header, *lines["riyadh"][:190], changed])})
    result = load(database, folder, DOSSIER_FULL_REFRESH="true")["tasks"]
    assert result is not None
    assert (result.removed, result.updated, result.kept) == (10, 1, {"york": 19})
    counts = rows(database, "SELECT tenant_id, count(*) FROM raw.tasks GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in counts] == [("riyadh", 190), ("york", 20)]


def test_of_a_tenant_that_is_refused_nothing_is_removed(database: Database, folder: Path) -> None:
    more = TASKS + "york,t2,c1,Other,pending,low,2025-01-05,,\n"
    load(database, write_files(folder, {"tasks.csv": more}))
    write_files(folder, {"tasks.csv": TASKS.replace("completed,low", "unheard of,low")})
    load(database, folder, DOSSIER_FULL_REFRESH="true", DOSSIER_MAX_REMOVED_SHARE="1")
    assert [row.tenant_id for row in loaded(database, "tasks")] == ["riyadh", "york", "york"]


POLICIES = "tenant_id,id,priority,hours\n"


def policies(database: Database, folder: Path, *lines: str, **environ: str) -> dict[str, dict[str, float]]:
    """Load policies; return the hours of each tenant by priority."""
    write_files(folder, {"sla_policies.csv": POLICIES + "".join(f"{line}\n" for line in lines)})
    load(database, folder, DOSSIER_MAX_REJECTED_SHARE="1", DOSSIER_MAX_REMOVED_SHARE="1", **environ)
    found: dict[str, dict[str, float]] = {}
    for row in rows(database, "SELECT * FROM raw.sla_policies"):
        found.setdefault(row.tenant_id, {})[row.priority] = float(row.hours)
    return found


@pytest.mark.parametrize("hours", ["100000000", "87600.1", "0", "-1", "1e300"])
def test_hours_of_service_that_end_nowhere_are_set_aside(database: Database, folder: Path, hours: str) -> None:
    assert policies(database, folder, f"york,1,low,{hours}", "york,2,high,87600") == {"york": {"high": 87600}}
    [(tenant_id, _, number, reason)] = reasons(database)
    assert (tenant_id, number) == ("york", 2)
    assert reason.endswith("must be more than 0 and at most 87600, ten years")


def test_of_two_policies_of_a_tenant_and_priority_the_later_is_set_aside(database: Database, folder: Path) -> None:
    lines = ("york,9,low,1", "york,1,low,2", "riyadh,1,low,3", "york,2,high,4")
    for _ in range(2):
        assert policies(database, folder, *lines) == {"york": {"low": 1, "high": 4}, "riyadh": {"low": 3}}
        assert reasons(database) == [("york", "sla_policies", 3, "priority: the same as in row 2")]


def test_two_policies_swap_their_priorities_in_one_load(database: Database, folder: Path) -> None:
    policies(database, folder, "york,1,low,1", "york,2,high,2")
    assert policies(database, folder, "york,1,high,1", "york,2,low,2") == {"york": {"high": 1, "low": 2}}
    assert reasons(database) == []


def test_a_policy_takes_the_priority_of_one_that_goes(database: Database, folder: Path) -> None:
    policies(database, folder, "york,1,low,1", "york,2,high,2")
    found = policies(database, folder, "york,3,low,3", "york,2,high,2", DOSSIER_FULL_REFRESH="true")
    assert found == {"york": {"low": 3, "high": 2}}
    assert reasons(database) == []


def test_a_policy_of_a_priority_that_a_loaded_one_keeps_is_set_aside(database: Database, folder: Path) -> None:
    policies(database, folder, "york,1,low,1", "york,2,high,2")
    found = policies(database, folder, "york,3,low,3", "riyadh,1,low,5")
    assert found == {"york": {"low": 1, "high": 2}, "riyadh": {"low": 5}}
    assert reasons(database) == [("york", "sla_policies", 2, "priority: the same as in a record that is loaded")]


def test_policies_that_only_fit_together_are_set_aside_together(database: Database, folder: Path) -> None:
    policies(database, folder, "york,1,low,1", "york,2,high,2")
    # The first would take the place of the second, which is bad and so stays where it is.
    found = policies(database, folder, "york,1,high,1", "york,2,low,0", "york,3,medium,3")
    assert found == {"york": {"low": 1, "high": 2, "medium": 3}}
    assert [reason for *_, reason in reasons(database)] == [
        "priority: the same as in a record that is loaded",
        "hours '0' must be more than 0 and at most 87600, ten years",
    ]
    # The first takes the place that the third leaves, the second would take it, too, and so stays.
    found = policies(database, folder, "york,1,medium,1", "york,2,medium,2", "york,3,low,3")
    assert found == {"york": {"medium": 1, "high": 2, "low": 3}}


def test_a_file_of_many_tenants_without_a_good_row_is_refused_unless_that_is_allowed(
    database: Database, folder: Path
) -> None:
    write_files(folder, {"sla_policies.csv": f"{POLICIES}york,1,low,0\n"})
    with pytest.raises(UserError) as refusal:
        load(database, folder)
    assert str(refusal.value).startswith(
        "sla_policies.csv: 1 of 1 rows are bad, of all tenants together: the source itself seems wrong. "
        "DOSSIER_MAX_REJECTED_SHARE=1 allows it. Nothing was merged; ingestion.rejected_rows holds each with its "
    )
    allowed = load(database, folder, DOSSIER_MAX_REJECTED_SHARE="1")["sla_policies"]
    assert allowed is not None
    assert (allowed.rows_read, allowed.rejected, allowed.inserted) == (1, 1, 0)


def test_the_reasons_that_are_shown_hold_nothing_of_the_values(database: Database, folder: Path) -> None:
    bad = TENANTS.replace('"{""colour"": ""green""}"', "{Maria: it's 'Rossi'}") + 'a,A,UTC,"[""Maria"", Rossi]"\n'
    write_files(
        folder,
        {
            "tenants.csv": bad,
            "automation_rules.csv": "tenant_id,id,name,trigger_event,condition,actions\n"
            'york,1,A,task_overdue,$.a == Maria,"[{""action"": ""Maria""}]"\n'
            'york,2,B,task_overdue,,"[{""action"": ""webhook""}]"\n',
            "cases.csv": CASES + "york,c2,Y 2,2025-01-05\n",
        },
    )
    found = load(database, folder, DOSSIER_MAX_REJECTED_SHARE="1")
    shown = [reason for result in found.values() if result for reason in result.reasons]
    assert [reason for reason in shown if "Maria" in reason or "Rossi" in reason] == []
    assert found["tenants"] is not None
    assert found["tenants"].reasons == {"settings is no JSON": 2}
    assert 'Token "Maria" is invalid.' in reasons(database)[-2][3]


def test_the_same_id_twice_counts_once_in_each_tenant(database: Database, folder: Path) -> None:
    twice = TASKS + TASKS.splitlines()[1] + "\n"
    load(database, write_files(folder, {"tasks.csv": twice}))
    assert reasons(database) == [("riyadh", "tasks", 4, "id is the same as in row 2")]
    assert len(loaded(database, "tasks")) == 2


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sqlite", "postgresql", "rest"])
def test_every_kind_of_source_gives_the_same(database: Database, server_url: str, tmp_path: Path, kind: str) -> None:
    tables = {
        name: list(csv.DictReader(io.StringIO(text)))
        for name, text in (("tenants", TENANTS), ("cases", CASES), ("tasks", TASKS))
    }
    with published(kind, tables, folder=tmp_path, server_url=server_url) as source:
        found = load(database, Path(source), **({"DOSSIER_LITIGATION_SOURCE": source}))
    assert {name: result.inserted for name, result in found.items() if result} == {"tenants": 2, "cases": 2, "tasks": 2}
    riyadh, york = loaded(database, "tasks")
    assert (riyadh.tenant_id, riyadh.priority, riyadh.due_date) == (
        "riyadh",
        "high",
        datetime(2025, 2, 4, 21, tzinfo=UTC),
    )
    assert (york.tenant_id, york.status, york.created_at) == ("york", "completed", datetime(2025, 1, 5, 15, tzinfo=UTC))
    assert loaded(database, "tenants")[0].settings == {"colour": "green"}


def test_the_sample_is_28_tenants_of_real_cases(database: Database) -> None:
    source = litigation_source(read_settings({}))
    assert source is not None
    found = {name: source.configured.load(database, entity, known=ENTITIES) for name, entity in ENTITIES.items()}
    assert {name: result and (result.inserted, result.rejected) for name, result in found.items()} == {
        "tenants": (28, 0),
        "users": (84, 0),
        "courts": (28, 0),
        "cases": (21_183, 0),
        "tasks": (29_276, 0),
        "hearings": (2_165, 0),
        "documents": (823, 0),
        "sla_policies": (112, 0),
        "automation_rules": (28, 0),
    }


def test_where_only_the_other_desks_have_a_source_there_is_no_sample() -> None:
    assert litigation_source(read_settings({"DOSSIER_SOURCE": "export"})) is None
