"""Build the litigation desk's sample from the European Union's infringement procedures.

The source and the licence are those of `build_sample_data.py`, seen from the other side: what a member state has to do.

Rules:

* A tenant is a member state, in the time zone of its capital.
* A case is an infringement case, opened with its first known act and closed with the closing or withdrawal that ends
  it. It lies before the Court of Justice of the European Union.
* A task is the answer to a letter of formal notice or a reasoned opinion (Article 258 or 260): set on the day of the
  act, due at the end of the same day two months later (on the last day of the month when that is too short), done when
  the next act of the case comes. Of high priority when the law was applied wrongly (nonconformity), else medium.
* A hearing is a referral to the Court, on its day. Whether somebody attended, the data do not say.
* A document is the press release of an act.
* The users of a tenant are its government's agent, its permanent representation, and an administrator; their addresses
  are in reserved domains, so that no mail can reach anybody.
* A rule of every tenant: when an answer of high priority is overdue, its permanent representation is told.
* A service level: 1,464 hours, 61 days, which are the usual two months, for every priority.

Days are local days of the tenant. The same source gives the same bytes.

Usage: ``python scripts/build_litigation_sample.py SOURCE_DIR [--output DIR]``
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from build_sample_data import (
    LETTERS,
    MONTHS_TO_COMPLY,
    NONCONFORMITY,
    OPINIONS,
    REFERRALS,
    REPOSITORY,
    Act,
    Case,
    act_from_row,
    add_months,
    case_from_row,
    csv_bytes,
    final_endings,
    gzip_bytes,
    order_of_act,
    read_rows,
    source_problems,
)

DEFAULT_OUTPUT = REPOSITORY / "dossier_pipelines" / "sample_data" / "eu_litigation"
COURT = "CJEU"
HOURS = "1464"
CONDITION = '$.priority == "high"'
TELL = (
    '[{"action": "notify", "role": "representation", "urgency": 2, "title": "An answer to the Commission is late", '
    '"message": "It was due {days_overdue} days ago. Case {case_id}."}]'
)
PRIORITIES = ("low", "medium", "high", "critical")

TIMEZONES = {
    "AT": "Europe/Vienna",
    "BE": "Europe/Brussels",
    "BG": "Europe/Sofia",
    "CY": "Asia/Nicosia",
    "CZ": "Europe/Prague",
    "DE": "Europe/Berlin",
    "DK": "Europe/Copenhagen",
    "EE": "Europe/Tallinn",
    "EL": "Europe/Athens",
    "ES": "Europe/Madrid",
    "FI": "Europe/Helsinki",
    "FR": "Europe/Paris",
    "HR": "Europe/Zagreb",
    "HU": "Europe/Budapest",
    "IE": "Europe/Dublin",
    "IT": "Europe/Rome",
    "LT": "Europe/Vilnius",
    "LU": "Europe/Luxembourg",
    "LV": "Europe/Riga",
    "MT": "Europe/Malta",
    "NL": "Europe/Amsterdam",
    "PL": "Europe/Warsaw",
    "PT": "Europe/Lisbon",
    "RO": "Europe/Bucharest",
    "SE": "Europe/Stockholm",
    "SI": "Europe/Ljubljana",
    "SK": "Europe/Bratislava",
    "UK": "Europe/London",
}


@dataclass(frozen=True)
class Tenant:
    """A row of tenants.csv."""

    id: str
    name: str
    timezone: str


@dataclass(frozen=True)
class User:
    """A row of users.csv."""

    tenant_id: str
    id: str
    name: str
    email: str
    role: str
    locale: str
    timezone: str


@dataclass(frozen=True)
class Court:
    """A row of courts.csv."""

    tenant_id: str
    id: str
    name: str
    city: str


@dataclass(frozen=True)
class LitigationCase:
    """A row of cases.csv."""

    tenant_id: str
    id: str
    case_number: str
    title: str
    status: str
    owner_id: str
    assigned_to: str
    court_id: str
    created_at: date
    closed_at: date | None


@dataclass(frozen=True)
class Task:
    """A row of tasks.csv."""

    tenant_id: str
    id: str
    case_id: str
    title: str
    status: str
    priority: str
    assigned_to: str
    created_at: date
    due_date: str
    completed_at: date | None


@dataclass(frozen=True)
class Hearing:
    """A row of hearings.csv."""

    tenant_id: str
    id: str
    case_id: str
    court_id: str
    hearing_date: str
    status: str


@dataclass(frozen=True)
class Document:
    """A row of documents.csv."""

    tenant_id: str
    id: str
    case_id: str
    uploaded_at: date


@dataclass(frozen=True)
class SlaPolicy:
    """A row of sla_policies.csv."""

    tenant_id: str
    id: str
    priority: str
    hours: str


@dataclass(frozen=True)
class AutomationRule:
    """A row of automation_rules.csv."""

    tenant_id: str
    id: str
    name: str
    trigger_event: str
    condition: str
    actions: str
    enabled: bool


def tenant_id(member_state_code: str) -> str:
    """Return the id of a member state's tenant."""
    return f"eu-{member_state_code.lower()}"


def users_of(code: str, name: str) -> list[User]:
    """Return the people of a member state's tenant."""
    return [
        User(tenant_id(code), role, title, f"{role}@{code.lower()}.example", role, "en", TIMEZONES[code])
        for role, title in (
            ("agent", f"Agent of the Government of {name}"),
            ("representation", f"Permanent Representation of {name} to the European Union"),
            ("admin", f"Administrator, {name}"),
        )
    ]


def case_of(case: Case, acts: Sequence[Act]) -> LitigationCase:
    """Return the case of the tenant that an infringement case is."""
    endings = final_endings(acts)
    department = acts[0].department.removeprefix("Directorate-General for ")
    return LitigationCase(
        tenant_id=tenant_id(case.member_state_code),
        id=case.case_id,
        case_number=case.case_id,
        title=f"{case.case_type} with EU law: {department}",
        status="closed" if endings else "active",
        owner_id="representation",
        assigned_to="agent",
        court_id=COURT,
        created_at=acts[0].day,
        closed_at=endings[0].day if endings else None,
    )


def tasks_of(case: Case, acts: Sequence[Act]) -> list[Task]:
    """Return the answers that the letters and opinions of a case ask for; ``acts`` are in order."""
    tasks = []
    for place, act in enumerate(acts):
        if act.stage not in LETTERS | OPINIONS:
            continue
        following = acts[place + 1].day if place + 1 < len(acts) else None
        tasks.append(
            Task(
                tenant_id=tenant_id(case.member_state_code),
                id=act.decision_id,
                case_id=case.case_id,
                title=f"Answer the {act.stage[0].lower()}{act.stage[1:]}",
                status="completed" if following else "in_progress",
                priority="high" if case.case_type == NONCONFORMITY else "medium",
                assigned_to="agent",
                created_at=act.day,
                due_date=f"{add_months(act.day, MONTHS_TO_COMPLY)}T23:59:00",
                completed_at=following,
            )
        )
    return tasks


def build(acts: Sequence[Act], cases: Sequence[Case]) -> dict[str, list[object]]:
    """Return the rows of every table by its name; raise ValueError when the source breaks an assumption."""
    problems = source_problems(acts, cases)
    if problems:
        raise ValueError("; ".join(problems))
    acts_by_case: dict[str, list[Act]] = defaultdict(list)
    for act in sorted(acts, key=order_of_act):
        acts_by_case[act.case_id].append(act)
    states = dict(sorted({act.member_state_code: act.member_state for act in acts}.items()))
    ordered = sorted(cases, key=lambda case: (case.member_state_code, acts_by_case[case.case_id][0].day, case.case_id))
    ids = [tenant_id(code) for code in states]
    return {
        "tenants": [Tenant(tenant_id(code), name, TIMEZONES[code]) for code, name in states.items()],
        "users": [user for code, name in states.items() for user in users_of(code, name)],
        "courts": [Court(each, COURT, "Court of Justice of the European Union", "Luxembourg") for each in ids],
        "cases": [case_of(case, acts_by_case[case.case_id]) for case in ordered],
        "tasks": [task for case in ordered for task in tasks_of(case, acts_by_case[case.case_id])],
        "hearings": [
            Hearing(
                tenant_id(case.member_state_code),
                act.decision_id,
                case.case_id,
                COURT,
                f"{act.day}T09:30:00",
                "completed",
            )
            for case in ordered
            for act in acts_by_case[case.case_id]
            if act.stage in REFERRALS
        ],
        "documents": [
            Document(tenant_id(case.member_state_code), act.decision_id, case.case_id, act.day)
            for case in ordered
            for act in acts_by_case[case.case_id]
            if act.press_release
        ],
        "automation_rules": [
            AutomationRule(each, "late", "An answer of high priority is late", "task_overdue", CONDITION, TELL, True)
            for each in ids
        ],
        "sla_policies": [SlaPolicy(each, priority, priority, HOURS) for each in ids for priority in PRIORITIES],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the sample from the command line."""
    parser = argparse.ArgumentParser(description="Build the litigation sample from the euip data set.")
    parser.add_argument("source", type=Path, metavar="SOURCE_DIR", help="holds decisions.csv and cases.csv")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write to")
    options = parser.parse_args(arguments)
    acts = [act_from_row(row) for row in read_rows(options.source / "decisions.csv")]
    cases = [case_from_row(row) for row in read_rows(options.source / "cases.csv")]
    options.output.mkdir(parents=True, exist_ok=True)
    for name, rows in build(acts, cases).items():
        data = gzip_bytes(csv_bytes(type(rows[0]), rows))
        (options.output / f"{name}.csv.gz").write_bytes(data)
        print(f"{name}: {len(rows):,} rows, {len(data):,} bytes")


if __name__ == "__main__":
    main()
