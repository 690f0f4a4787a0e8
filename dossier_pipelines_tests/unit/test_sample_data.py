"""The rules of the built-in sample on hand-made acts, and the shipped tables against those rules."""

import csv
import gzip
import importlib.util
import json
import sys
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dossier_pipelines.sample_data import LITIGATION_CLOCK, LITIGATION_DIRECTORY, SAMPLE_AS_OF, SAMPLE_DIRECTORY

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_sample_data.py"


def load_script() -> ModuleType:
    """Return the build script as a module; scripts are no package."""
    spec = importlib.util.spec_from_file_location("build_sample_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = load_script()


def act(stage: str, day: str, **changes: Any) -> Any:
    """Return an act of the case IP:1:ENV:SE."""
    values = {
        "decision_id": f"IP:1:ENV:SE:{stage}:{day}",
        "case_id": "IP:1:ENV:SE",
        "day": date.fromisoformat(day),
        "stage": stage,
        "member_state_code": "SE",
        "member_state": "Sweden",
        "department_code": "ENV",
        "department": "Directorate-General for Environment",
        "press_release": False,
    }
    return build.Act(**(values | changes))


def case(**changes: Any) -> Any:
    """Return the case that the hand-made acts belong to."""
    values = {
        "case_id": "IP:1:ENV:SE",
        "member_state_code": "SE",
        "department_code": "ENV",
        "case_type": "Noncommunication",
        "directive_number": "2002/49",
    }
    return build.Case(**(values | changes))


@cache
def shipped(table: str, directory: Path = SAMPLE_DIRECTORY) -> list[dict[str, str]]:
    """Return the rows of a shipped table."""
    with gzip.open(directory / f"{table}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shipped_acts_by_case() -> dict[str, list[Any]]:
    """Return the acts that the shipped engagements stand for, by case."""
    acts_by_case: dict[str, list[Any]] = defaultdict(list)
    for row in shipped("engagements"):
        department_code, member_state_code = row["dossier_id"].split(":")
        acts_by_case[row["case_id"]].append(
            act(
                row["type"],
                row["occurred_at"],
                decision_id=row["id"],
                case_id=row["case_id"],
                department_code=department_code,
                member_state_code=member_state_code,
                press_release=row["press_release"] == "1",
            )
        )
    return acts_by_case


def as_cells(row: Any) -> dict[str, str]:
    """Return a row as the shipped table would hold it."""
    return {name: build.cell(value) for name, value in vars(row).items()}


def write_source(folder: Path, acts: list[Any], cases: list[Any]) -> None:
    """Write acts and cases as the source's two files."""
    folder.mkdir()
    with (folder / "decisions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = list(vars(acts[0]))
        writer.writerow([{"day": "decision_date", "stage": "decision_stage"}.get(name, name) for name in names])
        writer.writerows([build.cell(getattr(act, name)) for name in names] for act in acts)
    with (folder / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(vars(cases[0]))
        writer.writerows(vars(case).values() for case in cases)


# --- Creation and due date


def test_a_commitment_is_created_with_its_first_letter() -> None:
    acts = [act(build.LETTER_258, "2005-03-01"), act(build.LETTER_258, "2004-02-01")]
    assert build.created_on(acts) == date(2004, 2, 1)


def test_a_commitment_is_created_with_its_first_letter_even_when_an_older_act_is_known() -> None:
    acts = [act(build.REFERRAL_258, "2003-07-09"), act(build.LETTER_260, "2006-04-26")]
    assert build.created_on(acts) == date(2006, 4, 26)


def test_a_commitment_without_a_letter_is_created_with_its_first_known_act() -> None:
    acts = [act(build.CLOSING, "2004-01-01"), act(build.OPINION_258, "2002-05-01")]
    assert build.created_on(acts) == date(2002, 5, 1)


@pytest.mark.parametrize("stage", [build.LETTER_258, build.OPINION_258, build.LETTER_260, build.OPINION_260])
def test_the_newest_letter_or_opinion_moves_the_due_date(stage: str) -> None:
    acts = [act(stage, "2006-05-10"), act(build.LETTER_258, "2004-02-01"), act(build.CLOSING, "2007-01-01")]
    assert build.due_on(acts) == date(2006, 7, 10)


def test_a_referral_does_not_move_the_due_date() -> None:
    acts = [act(build.OPINION_258, "2004-02-01"), act(build.REFERRAL_258, "2006-05-10")]
    assert build.due_on(acts) == date(2004, 4, 1)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2002-12-31", "2003-02-28"),
        ("2003-12-31", "2004-02-29"),
        ("2004-07-31", "2004-09-30"),
        ("2004-11-15", "2005-01-15"),
        ("2004-10-31", "2004-12-31"),
    ],
)
def test_two_months_end_with_the_month_when_it_has_no_such_day(day: str, expected: str) -> None:
    assert build.add_months(date.fromisoformat(day), 2) == date.fromisoformat(expected)


def test_a_case_without_letter_and_opinion_has_no_due_date() -> None:
    commitment = build.commitment_of(case(), [act(build.CLOSING, "2002-01-15")])
    assert commitment.due_date is None
    assert as_cells(commitment)["due_date"] == ""


# --- Status and end


def test_a_case_with_a_closing_is_completed_by_it() -> None:
    acts = [act(build.CLOSING, "2003-12-16"), act(build.LETTER_258, "2002-02-12")]
    assert build.status_and_end(acts) == ("completed", date(2003, 12, 16), None)


def test_a_case_with_only_a_withdrawal_is_cancelled_by_it() -> None:
    acts = [act(build.LETTER_258, "2002-02-12"), act(build.WITHDRAWAL, "2003-12-16")]
    assert build.status_and_end(acts) == ("cancelled", None, date(2003, 12, 16))


def test_a_case_without_an_end_is_in_progress() -> None:
    acts = [act(build.LETTER_258, "2002-02-12"), act(build.REFERRAL_258, "2003-12-16")]
    assert build.status_and_end(acts) == ("in_progress", None, None)


@pytest.mark.parametrize(
    ("withdrawn", "closed"), [("2008-09-18", "2008-10-16"), ("2013-06-14", "2013-05-30"), ("2008-09-18",) * 2]
)
def test_a_closing_wins_over_a_withdrawal_before_or_after_it(withdrawn: str, closed: str) -> None:
    acts = [
        act(build.REFERRAL_258, "2007-06-27"),
        act(build.WITHDRAWAL, withdrawn),
        act(build.CLOSING, closed),
    ]
    assert build.status_and_end(acts) == ("completed", date.fromisoformat(closed), None)


def test_a_case_that_was_taken_up_again_is_completed_by_its_last_closing() -> None:
    acts = [
        act(build.LETTER_258, "2008-09-18"),
        act(build.CLOSING, "2010-01-28"),
        act(build.OPINION_258, "2011-04-06"),
        act(build.CLOSING, "2011-09-29"),
    ]
    assert build.status_and_end(acts) == ("completed", date(2011, 9, 29), None)


def test_a_second_closing_without_an_act_between_changes_nothing() -> None:
    acts = [
        act(build.LETTER_258, "2008-09-18"),
        act(build.CLOSING, "2010-01-28"),
        act(build.CLOSING, "2011-09-29"),
    ]
    assert build.status_and_end(acts) == ("completed", date(2010, 1, 28), None)


@pytest.mark.parametrize("ending", [build.CLOSING, build.WITHDRAWAL])
def test_a_case_that_was_taken_up_again_and_not_ended_since_is_in_progress(ending: str) -> None:
    acts = [
        act(build.LETTER_258, "2008-09-18"),
        act(ending, "2010-01-28"),
        act(build.OPINION_258, "2011-04-06"),
    ]
    assert build.status_and_end(acts) == ("in_progress", None, None)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_end_on_the_day_of_another_act_counts_as_after_it(reverse: bool) -> None:
    acts = [act(build.OPINION_258, "2008-09-18"), act(build.CLOSING, "2008-09-18")]
    acts.sort(key=lambda one: one.stage, reverse=reverse)
    assert build.status_and_end(acts) == ("completed", date(2008, 9, 18), None)


def test_a_commitment_is_updated_by_its_newest_act_even_after_its_end() -> None:
    acts = [
        act(build.REFERRAL_258, "2011-05-19"),
        act(build.CLOSING, "2013-05-30"),
        act(build.WITHDRAWAL, "2013-06-14"),
    ]
    commitment = build.commitment_of(case(), acts)
    assert (commitment.completed_at, commitment.updated_at) == (date(2013, 5, 30), date(2013, 6, 14))


# --- Priority, words, and what belongs to whom


@pytest.mark.parametrize("stage", [build.REFERRAL_258, build.REFERRAL_260])
@pytest.mark.parametrize("case_type", ["Noncommunication", "Nonconformity"])
def test_a_case_referred_to_the_court_is_critical(case_type: str, stage: str) -> None:
    acts = [act(stage, "2003-01-01"), act(build.CLOSING, "2004-01-01")]
    assert build.priority_of(case_type, acts) == "critical"


@pytest.mark.parametrize(("case_type", "priority"), [("Nonconformity", "high"), ("Noncommunication", "medium")])
def test_a_case_not_referred_has_the_priority_of_its_kind(case_type: str, priority: str) -> None:
    assert build.priority_of(case_type, [act(build.OPINION_258, "2003-01-01")]) == priority


def test_a_commitment_says_what_to_comply_with() -> None:
    words = build.commitment_description(case())
    assert words == "Comply with EU law (noncommunication, case IP:1:ENV:SE)"
    words = build.commitment_description(case(directive_number="", case_type="Nonconformity"))
    assert words == "Comply with EU law (nonconformity, case IP:1:ENV:SE)"


def test_an_engagement_is_an_act_and_says_which() -> None:
    engagement = build.engagement_of(act(build.OPINION_258, "2003-01-01", press_release=True))
    assert as_cells(engagement) == {
        "id": "IP:1:ENV:SE:Reasoned opinion (Article 258):2003-01-01",
        "dossier_id": "ENV:SE",
        "type": "Reasoned opinion (Article 258)",
        "description": "Reasoned opinion (Article 258) in case IP:1:ENV:SE",
        "occurred_at": "2003-01-01",
        "created_at": "2003-01-01",
        "case_id": "IP:1:ENV:SE",
        "press_release": "1",
    }


def test_a_dossier_is_named_by_member_state_and_department() -> None:
    name = build.dossier_name("Sweden", "Directorate-General for Internal Market and Services")
    assert name == "Sweden - Internal Market and Services"
    assert build.dossier_name("United Kingdom", "Legal Service") == "United Kingdom - Legal Service"


def test_a_dossier_is_created_with_its_first_act_of_any_case() -> None:
    acts = [
        act(build.LETTER_258, "2004-02-01"),
        act(build.LETTER_258, "2003-02-01", case_id="IP:2:ENV:SE", decision_id="IP:2:ENV:SE:LFN258"),
    ]
    sample = build.build_sample(acts, [case(), case(case_id="IP:2:ENV:SE")])
    assert [(dossier.id, dossier.created_at) for dossier in sample.dossiers] == [("ENV:SE", date(2003, 2, 1))]


@pytest.mark.parametrize(
    ("code", "region", "bloc"),
    [
        ("SE", "Northern Europe", "1995 enlargement"),
        ("UK", "Northern Europe", "1973 enlargement"),
        ("LT", "Northern Europe", "2004 enlargement"),
        ("DE", "Western Europe", "Founding members (1958)"),
        ("IT", "Southern Europe", "Founding members (1958)"),
        ("EL", "Southern Europe", "1981 enlargement"),
        ("ES", "Southern Europe", "1986 enlargement"),
        ("CY", "Southern Europe", "2004 enlargement"),
        ("RO", "Eastern Europe", "2007 enlargement"),
        ("HR", "Southern Europe", "2013 enlargement"),
    ],
)
def test_a_member_state_has_a_region_and_an_accession_wave(code: str, region: str, bloc: str) -> None:
    assert (build.region_of(code), build.bloc_of(code)) == (region, bloc)


def test_every_member_state_is_in_one_region_and_one_bloc() -> None:
    for groups in (build.MEMBER_STATES_BY_REGION, build.MEMBER_STATES_BY_BLOC):
        codes = " ".join(groups.values()).split()
        assert len(codes) == len(set(codes)) == 28
    assert set(build.invert(build.MEMBER_STATES_BY_REGION)) == set(build.invert(build.MEMBER_STATES_BY_BLOC))


def test_an_act_with_a_press_release_makes_a_document_and_one_without_makes_none() -> None:
    acts = [
        act(build.LETTER_258, "2003-01-01", decision_id="silent"),
        act(build.OPINION_258, "2003-05-01", decision_id="loud", press_release=True),
    ]
    documents = build.build_sample(acts, [case()]).documents
    assert [as_cells(document) for document in documents] == [
        {
            "id": "press:loud",
            "dossier_id": "ENV:SE",
            "type": "press_release",
            "created_at": "2003-05-01",
            "decision_id": "loud",
        }
    ]


# --- Source and output


@pytest.mark.parametrize(
    ("acts", "cases", "problem"),
    [
        ([act(build.CLOSING, "2003-01-01")] * 2, [case()], "decision id twice"),
        ([act(build.CLOSING, "2003-01-01")], [case()] * 2, "case id twice"),
        ([act("Letter of thanks", "2003-01-01")], [case()], "unknown stage"),
        ([act(build.CLOSING, "2003-01-01", member_state_code="XX")], [case()], "without region or bloc"),
        ([act(build.CLOSING, "2003-01-01")], [case(), case(case_id="lonely")], "case without an act"),
        ([act(build.CLOSING, "2003-01-01")], [], "act without its case"),
        ([act(build.CLOSING, "2003-01-01")], [case(department_code="AGRI")], "another dossier"),
    ],
)
def test_a_source_that_breaks_an_assumption_is_refused(acts: list[Any], cases: list[Any], problem: str) -> None:
    with pytest.raises(build.SourceDataError, match=problem):
        build.build_sample(acts, cases)


def test_the_rows_of_a_built_table_are_ordered_by_date_then_id() -> None:
    acts = [
        act(
            build.LETTER_258,
            day,
            case_id=f"{code}:case",
            decision_id=f"{code}:act",
            department_code=code,
            press_release=True,
        )
        for code, day in [("C", "2003-01-01"), ("B", "2003-01-01"), ("A", "2004-01-01")]
    ]
    cases = [case(case_id=one.case_id, department_code=one.department_code) for one in acts]
    sample = build.build_sample(acts, cases)
    assert [user.id for user in sample.users] == ["A", "B", "C"]
    assert [dossier.id for dossier in sample.dossiers] == ["B:SE", "C:SE", "A:SE"]
    assert [engagement.id for engagement in sample.engagements] == ["B:act", "C:act", "A:act"]
    assert [commitment.id for commitment in sample.commitments] == ["B:case", "C:case", "A:case"]
    assert [document.id for document in sample.documents] == ["press:B:act", "press:C:act", "press:A:act"]


def test_the_order_of_the_source_does_not_change_a_byte_of_the_output(tmp_path: Path) -> None:
    acts = [
        act(build.LETTER_258, "2003-01-01", decision_id="a:2", press_release=True),
        act(build.LETTER_258, "2003-01-01", decision_id="a"),
        act(build.CLOSING, "2004-01-01", case_id="IP:2:ENV:SE", decision_id="b"),
    ]
    cases = [case(), case(case_id="IP:2:ENV:SE")]
    write_source(tmp_path / "source", acts, cases)
    write_source(tmp_path / "reversed", acts[::-1], cases[::-1])
    build.main([str(tmp_path / "source"), "--output", str(tmp_path / "one")])
    build.main([str(tmp_path / "reversed"), "--output", str(tmp_path / "other")])
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "other"))
    assert len(one) == 5
    assert one == other


def test_a_table_without_rows_still_has_its_header(tmp_path: Path) -> None:
    write_source(tmp_path / "source", [act(build.CLOSING, "2003-01-01")], [case()])
    build.main([str(tmp_path / "source"), "--output", str(tmp_path / "out")])
    documents = gzip.decompress((tmp_path / "out" / "documents.csv.gz").read_bytes())
    assert documents == b"id,dossier_id,type,created_at,decision_id\n"


def test_a_compressed_file_carries_no_time_and_no_name() -> None:
    header = build.gzip_bytes(b"anything")[:10]
    flags, time = header[3], header[4:8]
    assert flags == 0
    assert time == bytes(4)


# --- The shipped tables


@pytest.mark.parametrize(
    ("table", "rows"),
    [("users", 30), ("dossiers", 595), ("engagements", 50_960), ("commitments", 21_183), ("documents", 823)],
)
def test_the_sample_has_as_many_rows_as_promised_and_no_id_twice(table: str, rows: int) -> None:
    ids = [row["id"] for row in shipped(table)]
    assert len(ids) == len(set(ids)) == rows


@pytest.mark.parametrize("table", ["users", "dossiers", "engagements", "commitments", "documents"])
def test_a_shipped_table_has_the_columns_of_its_row(table: str) -> None:
    assert list(shipped(table)[0]) == list(build.ROW_TYPES[table].__dataclass_fields__)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("dossiers", "created_at"),
        ("engagements", "occurred_at"),
        ("commitments", "created_at"),
        ("documents", "created_at"),
    ],
)
def test_the_rows_of_a_shipped_table_are_ordered_by_date_then_id(table: str, column: str) -> None:
    keys = [(row[column], row["id"]) for row in shipped(table)]
    assert keys == sorted(keys)


@pytest.mark.parametrize("table", ["engagements", "commitments", "documents"])
def test_every_row_refers_to_a_dossier_that_exists_by_then(table: str) -> None:
    created = {row["id"]: row["created_at"] for row in shipped("dossiers")}
    assert all(created[row["dossier_id"]] <= row["created_at"] for row in shipped(table))


@pytest.mark.parametrize("table", ["dossiers", "commitments"])
def test_every_owner_is_a_user(table: str) -> None:
    assert {row["owner_id"] for row in shipped(table)} <= {row["id"] for row in shipped("users")}


def test_no_user_can_get_mail() -> None:
    assert all(row["email"] == f"{row['id'].lower()}@departments.example" for row in shipped("users"))


def test_every_shipped_commitment_is_what_the_rules_make_of_the_shipped_acts() -> None:
    acts_by_case = shipped_acts_by_case()
    assert len(acts_by_case) == len(shipped("commitments"))
    for row in shipped("commitments"):
        department_code, member_state_code = row["dossier_id"].split(":")
        its_case = case(
            case_id=row["id"],
            member_state_code=member_state_code,
            department_code=department_code,
            case_type=row["case_type"],
            directive_number=row["directive_number"],
        )
        assert as_cells(build.commitment_of(its_case, acts_by_case[row["id"]])) == row


def test_every_shipped_document_is_the_press_release_of_a_shipped_act() -> None:
    announced = {f"press:{row['id']}": row for row in shipped("engagements") if row["press_release"] == "1"}
    assert set(announced) == {row["id"] for row in shipped("documents")}
    for row in shipped("documents"):
        act_row = announced[row["id"]]
        expected = (act_row["id"], act_row["dossier_id"], act_row["occurred_at"])
        assert (row["decision_id"], row["dossier_id"], row["created_at"]) == expected


def test_every_shipped_dossier_is_created_with_its_first_act() -> None:
    first: dict[str, str] = {}
    for row in shipped("engagements"):
        first.setdefault(row["dossier_id"], row["occurred_at"])
    assert first == {row["id"]: row["created_at"] for row in shipped("dossiers")}


def test_no_commitment_is_due_or_ended_before_it_was_created() -> None:
    for row in shipped("commitments"):
        later = [row["due_date"], row["completed_at"], row["cancelled_at"], row["updated_at"]]
        assert all(day >= row["created_at"] for day in later if day)


def test_a_commitment_has_the_date_of_its_status_and_no_other() -> None:
    dated = {"completed": (True, False), "cancelled": (False, True), "in_progress": (False, False)}
    for row in shipped("commitments"):
        assert (bool(row["completed_at"]), bool(row["cancelled_at"])) == dated[row["status"]]


def test_every_case_with_a_closing_is_completed_and_every_other_with_a_withdrawal_cancelled() -> None:
    cases_by_ending = {
        ending: {row["case_id"] for row in shipped("engagements") if row["type"] == ending} for ending in build.ENDINGS
    }
    cases_by_status = defaultdict(set)
    for row in shipped("commitments"):
        cases_by_status[row["status"]].add(row["id"])
    closed, withdrawn = cases_by_ending[build.CLOSING], cases_by_ending[build.WITHDRAWAL]
    assert cases_by_status["completed"] == closed
    assert cases_by_status["cancelled"] == withdrawn - closed
    assert len(withdrawn & closed) == 9


def test_the_sample_has_the_statuses_that_its_readme_counts() -> None:
    statuses = Counter(row["status"] for row in shipped("commitments"))
    assert statuses == {"completed": 18_924, "in_progress": 1_677, "cancelled": 582}
    assert Counter(row["status"] for row in shipped("commitments") if not row["due_date"]) == {
        "completed": 95,
        "cancelled": 11,
        "in_progress": 3,
    }


def test_the_clock_of_the_sample_stands_on_the_day_of_its_newest_act() -> None:
    clock = datetime.fromisoformat(SAMPLE_AS_OF)
    assert clock.utcoffset() == timedelta(hours=3)
    assert clock.date().isoformat() == max(row["occurred_at"] for row in shipped("engagements"))


def test_the_sample_ships_with_its_licence_and_its_readme() -> None:
    licence = (SAMPLE_DIRECTORY / "LICENSE").read_text(encoding="utf-8")
    assert "euip" in licence
    assert "Copyright (c) 2021 Joshua C. Fjelstul" in licence
    assert "euip" in (SAMPLE_DIRECTORY / "README.md").read_text(encoding="utf-8")


# --- The other side: what the sample of the litigation desk promises, for every record, held against the shipped acts.
# Nothing here is computed by the script that built it.

DEMANDS = ("Letter of formal notice", "Reasoned opinion")


def desk(table: str) -> list[dict[str, str]]:
    """Return the rows of a shipped table of the litigation desk."""
    return shipped(table, LITIGATION_DIRECTORY)


@cache
def procedure() -> dict[str, list[dict[str, str]]]:
    """Return the shipped acts of every case, in the order of the procedure."""
    acts_by_case: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in shipped("engagements"):
        acts_by_case[row["case_id"]].append(row)
    for acts in acts_by_case.values():
        acts.sort(key=lambda row: (row["occurred_at"], build.STAGES.index(row["type"]), row["id"]))
    return acts_by_case


def acts_of(*beginnings: str) -> dict[str, dict[str, str]]:
    """Return the shipped acts of some stages by their id."""
    return {row["id"]: row for row in shipped("engagements") if row["type"].startswith(beginnings)}


def tenant_of(row: dict[str, str]) -> str:
    """Return the tenant whose member state an act or a commitment is about."""
    return f"eu-{row['dossier_id'].split(':')[1].lower()}"


def two_months_after(day: date) -> date:
    """Return the last day that is neither in a later month than two months after, nor later in it."""
    later = date(day.year + (day.month + 2 > 12), (day.month + 2 - 1) % 12 + 1, 1)
    found = [later + timedelta(days=number) for number in range(day.day)]
    return max(one for one in found if one.month == later.month)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2003-12-31", "2004-02-29"),
        ("2002-12-30", "2003-02-28"),
        ("2004-10-15", "2004-12-15"),
        ("2004-07-31", "2004-09-30"),
    ],
)
def test_two_months_after_is_what_a_calendar_says(day: str, expected: str) -> None:
    assert two_months_after(date.fromisoformat(day)).isoformat() == expected


def test_a_task_of_the_desk_is_the_answer_to_one_letter_or_opinion() -> None:
    demands = acts_of(*DEMANDS)
    assert len(desk("tasks")) == len(demands) == 29_276
    for task in desk("tasks"):
        asked = demands.pop(task["id"])
        assert (task["tenant_id"], task["case_id"]) == (tenant_of(asked), asked["case_id"])
        assert task["created_at"] == asked["occurred_at"]
        assert task["title"].lower() == f"answer the {asked['type'].lower()}"
    assert demands == {}


def test_a_task_of_the_desk_is_due_at_the_end_of_the_day_two_months_after_it_was_set() -> None:
    for task in desk("tasks"):
        assert task["due_date"] == f"{two_months_after(date.fromisoformat(task['created_at']))}T23:59:00"


def test_a_task_of_the_desk_is_done_when_the_next_act_of_its_case_comes_and_open_until_then() -> None:
    next_act = {
        one["id"]: following["occurred_at"] for acts in procedure().values() for one, following in pairwise(acts)
    }
    found = Counter()
    for task in desk("tasks"):
        done = next_act.get(task["id"], "")
        assert (task["completed_at"], task["status"]) == (done, "completed" if done else "in_progress")
        found[task["status"]] += 1
    assert min(found["completed"], found["in_progress"]) > 1_000


def test_a_task_of_the_desk_has_the_priority_of_the_kind_of_its_case() -> None:
    kinds = {row["id"]: row["case_type"] for row in shipped("commitments")}
    priorities = {"Nonconformity": "high", "Noncommunication": "medium"}
    for task in desk("tasks"):
        assert task["priority"] == priorities[kinds[task["case_id"]]]
    for case_row in desk("cases"):
        assert case_row["title"].startswith(f"{kinds[case_row['id']]} with EU law: ")


def test_a_hearing_of_the_desk_is_one_referral_to_the_court_on_its_day() -> None:
    referrals = acts_of("Referral to the Court")
    assert len(desk("hearings")) == len(referrals) == 2_165
    for hearing in desk("hearings"):
        act_row = referrals.pop(hearing["id"])
        assert (hearing["tenant_id"], hearing["case_id"]) == (tenant_of(act_row), act_row["case_id"])
        assert hearing["hearing_date"] == f"{act_row['occurred_at']}T09:30:00"
        # Whether somebody attended, the data do not say.
        assert (hearing["court_id"], hearing["status"], hearing.get("attended")) == ("CJEU", "completed", None)
    assert referrals == {}


def test_a_document_of_the_desk_is_the_press_release_of_an_act() -> None:
    announced = {row["id"]: row for row in shipped("engagements") if row["press_release"] == "1"}
    assert len(desk("documents")) == len(announced)
    for document in desk("documents"):
        act_row = announced.pop(document["id"])
        expected = (tenant_of(act_row), act_row["case_id"], act_row["occurred_at"])
        assert (document["tenant_id"], document["case_id"], document["uploaded_at"]) == expected


def test_a_case_of_the_desk_opens_with_its_first_act_and_closes_with_what_no_act_but_an_end_follows() -> None:
    commitments = {row["id"]: row for row in shipped("commitments")}
    assert len(desk("cases")) == len(commitments) == len(procedure())
    for case_row in desk("cases"):
        acts = procedure()[case_row["id"]]
        last = max((n for n, one in enumerate(acts) if one["type"] not in {"Withdrawal", "Closing"}), default=-1)
        closed = acts[last + 1]["occurred_at"] if last + 1 < len(acts) else ""
        assert case_row["created_at"] == acts[0]["occurred_at"]
        assert (case_row["closed_at"], case_row["status"]) == (closed, "closed" if closed else "active")
        assert case_row["tenant_id"] == tenant_of(commitments[case_row["id"]])
        assert case_row["case_number"] == case_row["id"]


def test_every_reference_of_the_desk_is_to_a_record_of_its_own_tenant() -> None:
    known = {
        table: {(row["tenant_id"], row["id"]) for row in desk(table)} for table in ("users", "courts", "cases", "tasks")
    }
    for table in ("cases", "tasks", "hearings", "documents"):
        for row in desk(table):
            for column, of in (
                ("case_id", "cases"),
                ("court_id", "courts"),
                ("owner_id", "users"),
                ("assigned_to", "users"),
            ):
                assert column not in row or (row["tenant_id"], row[column]) in known[of]


def test_a_tenant_of_the_desk_has_a_zone_its_people_its_court_its_rule_and_its_hours() -> None:
    tenants = desk("tenants")
    assert len({row["id"] for row in tenants}) == len(tenants) == 28
    assert {row["id"] for row in tenants} == {tenant_of(row) for row in shipped("commitments")}
    for tenant in tenants:
        own = {
            table: [row for row in desk(table) if row["tenant_id"] == tenant["id"]]
            for table in ("users", "courts", "sla_policies", "automation_rules")
        }
        assert ZoneInfo(tenant["timezone"]).key == tenant["timezone"]
        assert {row["role"] for row in own["users"]} == {"agent", "representation", "admin"}
        assert len(own["users"]) == 3
        assert [row["city"] for row in own["courts"]] == ["Luxembourg"]
        assert {row["priority"]: row["hours"] for row in own["sla_policies"]} == dict.fromkeys(
            ("low", "medium", "high", "critical"), str(61 * 24)
        )
        assert len(own["sla_policies"]) == 4
        [rule] = own["automation_rules"]
        assert (rule["trigger_event"], rule["condition"]) == ("task_overdue", '$.priority == "high"')
        assert [one["role"] for one in json.loads(rule["actions"])] == ["representation"]
    assert {row["timezone"] for row in desk("users")} == {row["timezone"] for row in tenants}


def test_no_user_of_the_desk_can_get_mail() -> None:
    assert all(row["email"].endswith(".example") for row in desk("users"))


def test_the_clock_of_the_desk_stands_at_the_end_of_the_day_of_the_newest_act() -> None:
    newest = max(row["occurred_at"] for row in shipped("engagements"))
    assert f"{newest}T23:59:00" == LITIGATION_CLOCK
    assert max(row["closed_at"] for row in desk("cases")) <= newest
