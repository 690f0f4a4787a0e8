"""Build the built-in sample of Dossier Pipelines from the European Union's infringement procedures.

The source is the ``euip`` data set (copyright 2021 Joshua C. Fjelstul, MIT licence) as two files:
``decisions.csv``, one row per dated act by which the European Commission pursued a member state, and
``cases.csv``, one row per case. The output is one gzip-compressed CSV per table.

Rules:

* A user is a Commission department. Its address is in ``departments.example``, a reserved domain, so that
  no mail can reach anybody.
* A dossier is a department's relationship with a member state, created on the day of its first act. Its
  region follows the UN geoscheme, except that Cyprus (Western Asia there) counts as Southern Europe; its
  bloc is the accession wave of the member state.
* An engagement is an act.
* A commitment is a case, that is a member state's duty to comply:

  - created with its first letter of formal notice, or without one with its first known act;
  - due two calendar months after its newest letter of formal notice or reasoned opinion (Article 258 or
    260), on the last day of the month when the month is too short; without a letter and an opinion the
    data cannot tell the due date, and it stays empty;
  - ended only by a closing or a withdrawal that no other act follows: completed by the first such closing,
    otherwise cancelled by the first such withdrawal, otherwise in progress;
  - updated on the day of its newest act;
  - of critical priority when it was referred to the Court, otherwise high when the law was applied wrongly
    (nonconformity), otherwise medium.

* A document is the press release of an act.

Rows are ordered by date, then by id; acts of one day by the order of the procedure, then by id. The same
source gives the same bytes.

Usage: ``python scripts/build_sample_data.py SOURCE_DIR [--output DIR]``
"""

import argparse
import csv
import gzip
import io
from calendar import monthrange
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_OUTPUT = REPOSITORY / "dossier_pipelines" / "sample_data" / "eu_infringements"

LETTER_258 = "Letter of formal notice (Article 258)"
OPINION_258 = "Reasoned opinion (Article 258)"
REFERRAL_258 = "Referral to the Court (Article 258)"
LETTER_260 = "Letter of formal notice (Article 260)"
OPINION_260 = "Reasoned opinion (Article 260)"
REFERRAL_260 = "Referral to the Court (Article 260)"
WITHDRAWAL = "Withdrawal"
CLOSING = "Closing"

# In the order of the procedure, which also orders acts of the same day.
STAGES = (
    LETTER_258,
    OPINION_258,
    REFERRAL_258,
    LETTER_260,
    OPINION_260,
    REFERRAL_260,
    WITHDRAWAL,
    CLOSING,
)
LETTERS = frozenset({LETTER_258, LETTER_260})
OPINIONS = frozenset({OPINION_258, OPINION_260})
REFERRALS = frozenset({REFERRAL_258, REFERRAL_260})
ENDINGS = frozenset({WITHDRAWAL, CLOSING})

MONTHS_TO_COMPLY = 2
NONCONFORMITY = "Nonconformity"
DEPARTMENT_PREFIX = "Directorate-General for "

# The codes are the data set's own: EL is Greece and UK the United Kingdom.
MEMBER_STATES_BY_REGION = {
    "Eastern Europe": "BG CZ HU PL RO SK",
    "Northern Europe": "DK EE FI IE LT LV SE UK",
    "Southern Europe": "CY EL ES HR IT MT PT SI",
    "Western Europe": "AT BE DE FR LU NL",
}
MEMBER_STATES_BY_BLOC = {
    "Founding members (1958)": "BE DE FR IT LU NL",
    "1973 enlargement": "DK IE UK",
    "1981 enlargement": "EL",
    "1986 enlargement": "ES PT",
    "1995 enlargement": "AT FI SE",
    "2004 enlargement": "CY CZ EE HU LT LV MT PL SI SK",
    "2007 enlargement": "BG RO",
    "2013 enlargement": "HR",
}


class SourceDataError(ValueError):
    """The source does not hold what the rules rely on."""


@dataclass(frozen=True)
class Act:
    """A dated act of the Commission in a case."""

    decision_id: str
    case_id: str
    day: date
    stage: str
    member_state_code: str
    member_state: str
    department_code: str
    department: str
    press_release: bool


@dataclass(frozen=True)
class Case:
    """A case: a member state's duty to comply, pursued by a department."""

    case_id: str
    member_state_code: str
    department_code: str
    case_type: str
    directive_number: str


@dataclass(frozen=True)
class User:
    """A row of users.csv."""

    id: str
    name: str
    email: str
    role: str
    locale: str
    timezone: str


@dataclass(frozen=True)
class Dossier:
    """A row of dossiers.csv."""

    id: str
    name: str
    type: str
    region: str
    bloc: str
    classification: str
    owner_id: str
    created_at: date
    member_state_code: str
    department_code: str


@dataclass(frozen=True)
class Engagement:
    """A row of engagements.csv."""

    id: str
    dossier_id: str
    type: str
    description: str
    occurred_at: date
    created_at: date
    case_id: str
    press_release: bool


@dataclass(frozen=True)
class Commitment:
    """A row of commitments.csv."""

    id: str
    dossier_id: str
    description: str
    status: str
    due_date: date | None
    owner_id: str
    priority: str
    created_at: date
    updated_at: date
    completed_at: date | None
    cancelled_at: date | None
    case_type: str
    directive_number: str


@dataclass(frozen=True)
class Document:
    """A row of documents.csv."""

    id: str
    dossier_id: str
    type: str
    created_at: date
    decision_id: str


Row = User | Dossier | Engagement | Commitment | Document
ROW_TYPES: dict[str, type[Row]] = {
    "users": User,
    "dossiers": Dossier,
    "engagements": Engagement,
    "commitments": Commitment,
    "documents": Document,
}


@dataclass(frozen=True)
class Sample:
    """The five tables, each in the order it is written."""

    users: list[User]
    dossiers: list[Dossier]
    engagements: list[Engagement]
    commitments: list[Commitment]
    documents: list[Document]

    def tables(self) -> dict[str, Sequence[Row]]:
        """Return the rows of each table by its name."""
        return {
            "users": self.users,
            "dossiers": self.dossiers,
            "engagements": self.engagements,
            "commitments": self.commitments,
            "documents": self.documents,
        }


# --- Reading the source


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def act_from_row(row: Mapping[str, str]) -> Act:
    """Return the act that a row of decisions.csv describes."""
    return Act(
        decision_id=row["decision_id"],
        case_id=row["case_id"],
        day=date.fromisoformat(row["decision_date"]),
        stage=row["decision_stage"],
        member_state_code=row["member_state_code"],
        member_state=row["member_state"],
        department_code=row["department_code"],
        department=row["department"],
        press_release=row["press_release"] == "1",
    )


def case_from_row(row: Mapping[str, str]) -> Case:
    """Return the case that a row of cases.csv describes."""
    return Case(
        case_id=row["case_id"],
        member_state_code=row["member_state_code"],
        department_code=row["department_code"],
        case_type=row["case_type"],
        directive_number=row["directive_number"],
    )


def repeated(ids: Iterable[str]) -> list[str]:
    """Return the ids that occur more than once, sorted."""
    return sorted(id_ for id_, count in Counter(ids).items() if count > 1)


def source_problems(acts: Sequence[Act], cases: Sequence[Case]) -> list[str]:
    """Return what in the source breaks an assumption of the rules, in words; nothing when all hold."""
    parties_by_case = {case.case_id: (case.department_code, case.member_state_code) for case in cases}
    covered = set(invert(MEMBER_STATES_BY_REGION)) & set(invert(MEMBER_STATES_BY_BLOC))
    findings = {
        "decision id twice": repeated(act.decision_id for act in acts),
        "case id twice": repeated(case.case_id for case in cases),
        "unknown stage": sorted({act.stage for act in acts} - set(STAGES)),
        "member state without region or bloc": sorted({act.member_state_code for act in acts} - covered),
        "case without an act": sorted(set(parties_by_case) - {act.case_id for act in acts}),
        "act without its case": sorted({act.case_id for act in acts} - set(parties_by_case)),
        "act of another dossier than its case": sorted(
            act.decision_id
            for act in acts
            if act.case_id in parties_by_case
            and parties_by_case[act.case_id] != (act.department_code, act.member_state_code)
        ),
    }
    return [f"{name}: {', '.join(ids[:5])} ({len(ids)} in all)" for name, ids in findings.items() if ids]


# --- Rules


def invert(codes_by_name: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each code, given the space-separated codes of each name."""
    return {code: name for name, codes in codes_by_name.items() for code in codes.split()}


def region_of(member_state_code: str) -> str:
    """Return the part of Europe that a member state lies in."""
    return invert(MEMBER_STATES_BY_REGION)[member_state_code]


def bloc_of(member_state_code: str) -> str:
    """Return the accession wave of a member state."""
    return invert(MEMBER_STATES_BY_BLOC)[member_state_code]


def dossier_id_of(party: Act | Case) -> str:
    """Return the id of the dossier that an act or a case belongs to."""
    return f"{party.department_code}:{party.member_state_code}"


def dossier_name(member_state: str, department: str) -> str:
    """Return a dossier's name; departments that are no directorate-general keep their full name."""
    return f"{member_state} - {department.removeprefix(DEPARTMENT_PREFIX)}"


def order_of_act(act: Act) -> tuple[date, int, str]:
    """Return the key that orders acts: by date, then by stage of the procedure, then by id."""
    return act.day, STAGES.index(act.stage), act.decision_id


def add_months(day: date, months: int) -> date:
    """Return the same day some calendar months later, or that month's last day when it has no such day."""
    month_index = day.year * 12 + day.month - 1 + months
    year, month = month_index // 12, month_index % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def created_on(acts: Sequence[Act]) -> date:
    """Return the date of a case's first letter of formal notice, or without one of its first known act."""
    letters = [act.day for act in acts if act.stage in LETTERS]
    return min(letters or [act.day for act in acts])


def due_on(acts: Sequence[Act]) -> date | None:
    """Return when the newest letter or opinion of a case asks for compliance, or None without either."""
    demands = [act.day for act in acts if act.stage in LETTERS | OPINIONS]
    return add_months(max(demands), MONTHS_TO_COMPLY) if demands else None


def final_endings(acts: Sequence[Act]) -> list[Act]:
    """Return the closings and withdrawals that no other act of the case follows, in order."""
    endings: list[Act] = []
    for act in sorted(acts, key=order_of_act):
        if act.stage in ENDINGS:
            endings.append(act)
        else:
            endings.clear()
    return endings


def status_and_end(acts: Sequence[Act]) -> tuple[str, date | None, date | None]:
    """Return a case's status, when it was completed and when it was cancelled.

    A closing wins over a withdrawal: every case of the source that has both was referred to the Court
    before, so that the withdrawal is read as the referral's and the closing as the case's.
    """
    endings = final_endings(acts)
    for act in endings:
        if act.stage == CLOSING:
            return "completed", act.day, None
    for act in endings:
        return "cancelled", None, act.day
    return "in_progress", None, None


def priority_of(case_type: str, acts: Sequence[Act]) -> str:
    """Return a case's priority: how far it went, then what kind of breach it is."""
    if any(act.stage in REFERRALS for act in acts):
        return "critical"
    return "high" if case_type == NONCONFORMITY else "medium"


def commitment_description(case: Case) -> str:
    """Return what the member state has to do, in words."""
    # Half of the directive numbers in the data name a directive younger than the case; they stay a column of
    # their own, and are not stated as what a member state has to comply with.
    return f"Comply with EU law ({case.case_type.lower()}, case {case.case_id})"


# --- Rows


def user_of(act: Act) -> User:
    """Return the user who stands for the department of an act."""
    return User(
        id=act.department_code,
        name=act.department,
        email=f"{act.department_code.lower()}@departments.example",
        role="department",
        locale="en",
        timezone="Europe/Brussels",
    )


def dossier_of(first_act: Act) -> Dossier:
    """Return the dossier that its first act opens."""
    return Dossier(
        id=dossier_id_of(first_act),
        name=dossier_name(first_act.member_state, first_act.department),
        type="country",
        region=region_of(first_act.member_state_code),
        bloc=bloc_of(first_act.member_state_code),
        classification="public",
        owner_id=first_act.department_code,
        created_at=first_act.day,
        member_state_code=first_act.member_state_code,
        department_code=first_act.department_code,
    )


def engagement_of(act: Act) -> Engagement:
    """Return the engagement that an act is."""
    return Engagement(
        id=act.decision_id,
        dossier_id=dossier_id_of(act),
        type=act.stage,
        description=f"{act.stage} in case {act.case_id}",
        occurred_at=act.day,
        created_at=act.day,
        case_id=act.case_id,
        press_release=act.press_release,
    )


def commitment_of(case: Case, acts: Sequence[Act]) -> Commitment:
    """Return the commitment that a case with these acts is."""
    status, completed_at, cancelled_at = status_and_end(acts)
    return Commitment(
        id=case.case_id,
        dossier_id=dossier_id_of(case),
        description=commitment_description(case),
        status=status,
        due_date=due_on(acts),
        owner_id=case.department_code,
        priority=priority_of(case.case_type, acts),
        created_at=created_on(acts),
        updated_at=max(act.day for act in acts),
        completed_at=completed_at,
        cancelled_at=cancelled_at,
        case_type=case.case_type,
        directive_number=case.directive_number,
    )


def document_of(act: Act) -> Document:
    """Return the press release of an act."""
    return Document(
        id=f"press:{act.decision_id}",
        dossier_id=dossier_id_of(act),
        type="press_release",
        created_at=act.day,
        decision_id=act.decision_id,
    )


def build_sample(acts: Sequence[Act], cases: Sequence[Case]) -> Sample:
    """Return the tables that the rules make of the source.

    Raises:
        SourceDataError: The source breaks an assumption of the rules.
    """
    problems = source_problems(acts, cases)
    if problems:
        raise SourceDataError("; ".join(problems))
    first_act_by_dossier: dict[str, Act] = {}
    acts_by_case: dict[str, list[Act]] = {}
    for act in sorted(acts, key=order_of_act):
        first_act_by_dossier.setdefault(dossier_id_of(act), act)
        acts_by_case.setdefault(act.case_id, []).append(act)
    return Sample(
        users=sorted({user_of(act) for act in acts}, key=lambda user: user.id),
        dossiers=sorted(
            (dossier_of(act) for act in first_act_by_dossier.values()),
            key=lambda dossier: (dossier.created_at, dossier.id),
        ),
        engagements=sorted(
            (engagement_of(act) for act in acts),
            key=lambda engagement: (engagement.occurred_at, engagement.id),
        ),
        commitments=sorted(
            (commitment_of(case, acts_by_case[case.case_id]) for case in cases),
            key=lambda commitment: (commitment.created_at, commitment.id),
        ),
        documents=sorted(
            (document_of(act) for act in acts if act.press_release),
            key=lambda document: (document.created_at, document.id),
        ),
    )


# --- Writing the output


def cell(value: str | bool | date | None) -> str:
    """Return a value as the text of a CSV cell; null is empty, true and false are 1 and 0."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    return value.isoformat() if isinstance(value, date) else value


def csv_bytes(row_type: type[Row], rows: Sequence[Row]) -> bytes:
    """Return the rows of one table as a UTF-8 CSV whose header is the row type's fields."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(row_type)])
    writer.writerows([cell(value) for value in astuple(row)] for row in rows)
    return text.getvalue().encode("utf-8")


def gzip_bytes(data: bytes) -> bytes:
    """Return data compressed, without a time and a file name, which would change the bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def write_sample(sample: Sample, output: Path) -> dict[str, int]:
    """Write every table and return the size of each file in bytes, by its name."""
    output.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for name, rows in sample.tables().items():
        path = output / f"{name}.csv.gz"
        path.write_bytes(gzip_bytes(csv_bytes(ROW_TYPES[name], rows)))
        sizes[path.name] = path.stat().st_size
    return sizes


def summary(sample: Sample, sizes: Mapping[str, int]) -> str:
    """Return what was built, in lines for the terminal."""
    lines = [f"{name}: {len(rows):,} rows, {sizes[f'{name}.csv.gz']:,} bytes" for name, rows in sample.tables().items()]
    statuses = Counter(commitment.status for commitment in sample.commitments)
    priorities = Counter(commitment.priority for commitment in sample.commitments)
    days = [engagement.occurred_at for engagement in sample.engagements]
    lines += [
        f"acts: {min(days)} to {max(days)}",
        "status: " + ", ".join(f"{name} {count:,}" for name, count in sorted(statuses.items())),
        "priority: " + ", ".join(f"{name} {count:,}" for name, count in sorted(priorities.items())),
        f"commitments without a due date: {sum(c.due_date is None for c in sample.commitments):,}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the sample from the command line."""
    parser = argparse.ArgumentParser(description="Build the built-in sample from the euip data set.")
    parser.add_argument("source", type=Path, metavar="SOURCE_DIR", help="holds decisions.csv and cases.csv")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write to")
    options = parser.parse_args(arguments)
    acts = [act_from_row(row) for row in read_rows(options.source / "decisions.csv")]
    cases = [case_from_row(row) for row in read_rows(options.source / "cases.csv")]
    sample = build_sample(acts, cases)
    print(summary(sample, write_sample(sample, options.output)))


if __name__ == "__main__":
    main()
