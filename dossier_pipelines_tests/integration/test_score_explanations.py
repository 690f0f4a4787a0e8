"""Every score says what changed since the previous one, and which records caused it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from dossier_pipelines.dossiers.health_formula import HealthConfig
from dossier_pipelines.dossiers.refresh import refresh_health
from dossier_pipelines.shared.database import Database
from dossier_pipelines_tests.histories import DAY, DEFAULTS, HOUR, Records, configuration
from dossier_pipelines_tests.records import rows

# Past midnight in Riyadh, still the day before in UTC.
CLOCK = datetime(2025, 6, 14, 22, tzinfo=UTC)
TODAY = date(2025, 6, 15)


class Story:
    """One dossier, scored once at the beginning: 4 engagements, 1 of 2 commitments fulfilled."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.records = Records(database, clock_at=CLOCK)
        self.clock = CLOCK
        self.dossier = self.records.dossier(type="country")
        self.engagements = self.records.engagements(
            self.dossier, CLOCK - DAY, CLOCK - 40 * DAY, CLOCK - 100 * DAY, CLOCK - 300 * DAY
        )
        self.kept = self.commitment("completed", due_date=TODAY - 10 * DAY, completed_at=CLOCK - 20 * DAY)
        self.open = self.commitment(due_date=TODAY + 20 * DAY)
        self.refresh()

    def commitment(self, status: str = "pending", **values: Any) -> uuid.UUID:
        return self.records.commitment(self.dossier, status, **values)

    def refresh(self, *, clock: datetime | None = None, config: HealthConfig = DEFAULTS) -> None:
        if clock is not None:
            self.clock = clock
            self.records.set_clock(clock)
        refresh_health(self.database, config, now=self.clock)

    @property
    def score(self) -> sa.Row[Any]:
        return rows(self.database, "SELECT * FROM dossiers.health_scores WHERE dossier_id = :id", id=self.dossier)[0]

    @property
    def factors(self) -> dict[str, Factor]:
        return {
            one["factor"]: Factor(one["text"], one["count"], {uuid.UUID(record) for record in one["records"]})
            for one in self.score.factors
        }


class Factor(NamedTuple):
    """What a score says of one cause."""

    text: str
    count: int
    records: set[uuid.UUID]


@pytest.fixture
def story(database: Database) -> Story:
    return Story(database)


# --- the first score, and scores that stay ----------------------------------------------------------------------


def test_a_first_score_has_no_previous_one_and_nothing_to_explain(story: Story) -> None:
    assert story.score.overall_score is not None
    assert (story.score.previous_score, story.score.factors, story.score.changed_at) == (None, [], CLOCK)


def test_a_score_that_stays_keeps_what_it_said_of_its_last_change(story: Story) -> None:
    first = story.score.overall_score
    story.refresh(clock=CLOCK + HOUR)
    story.records.engagement(story.dossier, story.clock)
    story.refresh()
    changed = story.score
    assert changed.previous_score == first
    assert changed.changed_at == CLOCK + HOUR
    # Computed anew, and the same: due dates that come nearer or a description change nothing.
    story.refresh(clock=CLOCK + 3 * HOUR)
    story.commitment("cancelled", due_date=TODAY)
    story.refresh(clock=CLOCK + 5 * HOUR)
    again = story.score
    assert again.as_of == CLOCK + 5 * HOUR
    assert (again.previous_score, again.changed_at, again.factors) == (
        changed.previous_score,
        changed.changed_at,
        changed.factors,
    )


def test_each_change_replaces_what_was_said_of_the_one_before(story: Story) -> None:
    story.records.engagement(story.dossier, CLOCK)
    story.refresh()
    second = story.score.overall_score
    story.records.change("commitments", story.open, status="completed", completed_at=CLOCK)
    story.refresh()
    assert story.score.previous_score == second
    assert set(story.factors) == {"commitments_fulfilled"}


def test_a_score_that_is_lost_is_kept_as_the_previous_one(story: Story) -> None:
    before = story.score.overall_score
    story.records.remove("commitments", story.kept, story.open)
    story.refresh()
    assert (story.score.overall_score, story.score.previous_score) == (None, before)
    assert story.factors == {
        "commitments_gone": Factor("2 commitments were cancelled or removed", 2, {story.kept, story.open})
    }


# --- commitments ------------------------------------------------------------------------------------------------


def test_commitments_that_became_overdue_are_counted_and_named(story: Story) -> None:
    due_today = {story.commitment(due_date=TODAY), story.commitment("in_progress", due_date=TODAY)}
    # None of these becomes overdue now.
    story.commitment(due_date=TODAY - DAY)
    story.commitment(due_date=TODAY + DAY)
    story.commitment("completed", due_date=TODAY)
    story.commitment("cancelled", due_date=TODAY)
    story.commitment()
    story.refresh()
    before = story.score
    story.refresh(clock=datetime(2025, 6, 15, 21, tzinfo=UTC))
    assert story.factors == {"commitments_overdue": Factor("2 commitments became overdue", 2, due_today)}
    # It is said when it happens, although being late alone lowers no component.
    assert story.score.changed_at == story.clock
    assert story.score.previous_score == story.score.overall_score == before.overall_score


def test_one_commitment_is_one_commitment(story: Story) -> None:
    late = story.commitment(due_date=TODAY)
    story.refresh()
    story.refresh(clock=CLOCK + 24 * HOUR)
    assert story.factors == {"commitments_overdue": Factor("1 commitment became overdue", 1, {late})}


def test_a_commitment_whose_due_date_was_moved_into_the_past_became_overdue(story: Story) -> None:
    story.commitment(due_date=TODAY - DAY)
    story.refresh()
    story.records.change("commitments", story.open, due_date=TODAY - 30 * DAY)
    story.refresh()
    assert story.factors == {"commitments_overdue": Factor("1 commitment became overdue", 1, {story.open})}


def test_a_commitment_that_was_late_when_it_was_recorded_is_added_and_overdue(story: Story) -> None:
    late = story.commitment(due_date=TODAY - DAY)
    story.refresh()
    assert story.factors == {
        "commitments_overdue": Factor("1 commitment became overdue", 1, {late}),
        "commitments_added": Factor("1 commitment was added", 1, {late}),
    }


@pytest.mark.parametrize(
    ("change", "also"),
    [
        ({"due_date": TODAY + 5 * DAY}, {}),
        ({"status": "completed"}, {"commitments_fulfilled": "1 commitment was fulfilled"}),
        ({"status": "cancelled"}, {"commitments_gone": "1 commitment was cancelled or removed"}),
    ],
    ids=["extended", "completed", "cancelled"],
)
def test_a_commitment_that_is_no_longer_overdue_is_named(
    story: Story, change: dict[str, object], also: dict[str, str]
) -> None:
    late, stays_late = story.commitment(due_date=TODAY - DAY), story.commitment(due_date=TODAY - DAY)
    story.refresh()
    story.records.change("commitments", late, **change)
    # Touched too, and late before and after.
    story.records.change("commitments", stays_late, status="overdue")
    story.refresh()
    assert story.factors == {
        "commitments_no_longer_overdue": Factor("1 commitment is no longer overdue", 1, {late}),
        **{name: Factor(text, 1, {late}) for name, text in also.items()},
    }


def test_what_became_overdue_and_what_no_longer_is_do_not_cancel_out(story: Story) -> None:
    late, due_today = story.commitment(due_date=TODAY - DAY), story.commitment(due_date=TODAY)
    story.refresh()
    story.records.change("commitments", late, status="completed")
    story.refresh(clock=CLOCK + 24 * HOUR)
    assert story.factors == {
        "commitments_overdue": Factor("1 commitment became overdue", 1, {due_today}),
        "commitments_no_longer_overdue": Factor("1 commitment is no longer overdue", 1, {late}),
        "commitments_fulfilled": Factor("1 commitment was fulfilled", 1, {late}),
    }


def test_every_change_of_one_load_is_told_with_its_own_records(story: Story) -> None:
    done = [story.commitment(due_date=TODAY + DAY) for _ in range(2)]
    cancelled, deleted, edited = (story.commitment(due_date=TODAY + DAY) for _ in range(3))
    story.refresh()
    records = story.records
    records.change("commitments", *done, status="completed")
    records.change("commitments", story.kept, status="in_progress", completed_at=None, due_date=TODAY + DAY)
    records.change("commitments", cancelled, status="cancelled")
    records.remove("commitments", deleted)
    records.change("commitments", edited, status="in_progress", due_date=TODAY + 2 * DAY)
    added = {story.commitment(due_date=TODAY + DAY) for _ in range(3)}
    records.remove("engagements", story.engagements[0])
    engaged = {records.engagement(story.dossier, CLOCK - 2 * DAY), records.engagement(story.dossier, CLOCK)}
    # Too old to count in the year.
    records.engagement(story.dossier, CLOCK - 400 * DAY)
    story.refresh()
    assert story.factors == {
        "commitments_fulfilled": Factor("2 commitments were fulfilled", 2, set(done)),
        "commitments_reopened": Factor("1 commitment is no longer fulfilled", 1, {story.kept}),
        "commitments_added": Factor("3 commitments were added", 3, added),
        "commitments_gone": Factor("2 commitments were cancelled or removed", 2, {cancelled, deleted}),
        "engagements_added": Factor("2 engagements were added", 2, engaged),
        "engagements_removed": Factor("1 engagement was removed or moved", 1, {story.engagements[0]}),
    }


def test_what_was_added_and_removed_between_two_refreshes_is_not_told(story: Story) -> None:
    passing = story.commitment("completed")
    story.records.remove("commitments", passing)
    met = story.records.engagement(story.dossier, CLOCK)
    story.records.remove("engagements", met)
    lasting = story.commitment()
    story.records.change("commitments", lasting, status="completed")
    story.refresh()
    assert story.factors == {
        "commitments_fulfilled": Factor("1 commitment was fulfilled", 1, {lasting}),
        "commitments_added": Factor("1 commitment was added", 1, {lasting}),
    }


def test_a_commitment_that_moves_is_gone_here_and_added_there(story: Story) -> None:
    other = story.records.dossier()
    story.refresh()
    story.records.change("commitments", story.kept, dossier_id=other)
    story.refresh()
    assert story.factors == {"commitments_gone": Factor("1 commitment was cancelled or removed", 1, {story.kept})}
    found = rows(story.database, "SELECT factors FROM dossiers.health_scores WHERE dossier_id = :id", id=other)[0]
    # There the rate is 100 before and after; nothing moved.
    assert found.factors == []


def test_a_cancelled_commitment_that_comes_back_is_added(story: Story) -> None:
    cancelled = story.commitment("cancelled")
    story.refresh()
    story.records.change("commitments", cancelled, status="pending")
    story.refresh()
    assert story.factors == {"commitments_added": Factor("1 commitment was added", 1, {cancelled})}


def test_ends_and_beginnings_that_were_dated_ahead_are_told_when_they_come(story: Story) -> None:
    later = CLOCK + HOUR / 2
    done = story.commitment("completed", completed_at=later)
    begun = story.commitment(created_at=later)
    cancelled = story.commitment("cancelled", cancelled_at=later)
    met = story.records.engagement(story.dossier, later)
    story.refresh()
    story.refresh(clock=CLOCK + HOUR)
    assert story.factors == {
        "commitments_fulfilled": Factor("1 commitment was fulfilled", 1, {done}),
        "commitments_added": Factor("1 commitment was added", 1, {begun}),
        "commitments_gone": Factor("1 commitment was cancelled or removed", 1, {cancelled}),
        "engagements_added": Factor("1 engagement was added", 1, {met}),
    }


# --- engagements ------------------------------------------------------------------------------------------------


def test_engagements_that_left_the_year_are_counted_and_named(story: Story) -> None:
    aging = set(story.records.engagements(story.dossier, CLOCK - 364 * DAY, CLOCK - 363 * DAY))
    story.refresh()
    story.refresh(clock=CLOCK + 3 * DAY)
    assert story.factors == {"engagements_aged": Factor("2 engagements are more than 365 days ago now", 2, aging)}


def test_an_engagement_that_leaves_while_another_comes_are_two_factors(story: Story) -> None:
    story.refresh(clock=CLOCK + 60 * DAY)
    new = story.records.engagement(story.dossier, CLOCK + 60 * DAY)
    story.refresh(clock=CLOCK + 66 * DAY)
    assert story.factors["engagements_aged"] == Factor(
        "1 engagement is more than 365 days ago now", 1, {story.engagements[3]}
    )
    assert story.factors["engagements_added"] == Factor("1 engagement was added", 1, {new})


def test_an_engagement_that_moves_is_removed_here_and_added_there(story: Story) -> None:
    other = story.records.dossier()
    story.refresh()
    story.records.change("engagements", story.engagements[2], dossier_id=other)
    story.refresh()
    assert story.factors == {
        "engagements_removed": Factor("1 engagement was removed or moved", 1, {story.engagements[2]})
    }
    there = rows(story.database, "SELECT factors FROM dossiers.health_scores WHERE dossier_id = :id", id=other)[0]
    assert [(one["text"], one["records"]) for one in there.factors] == [
        ("1 engagement was added", [str(story.engagements[2])]),
        ("the first engagement is 100 days ago", []),
    ]


def test_an_engagement_whose_date_was_corrected_out_of_the_year_is_removed_and_back_in_is_added(story: Story) -> None:
    corrected = story.engagements[2]
    story.records.change("engagements", corrected, occurred_at=CLOCK - 500 * DAY)
    story.refresh()
    assert story.factors == {"engagements_removed": Factor("1 engagement was removed or moved", 1, {corrected})}
    story.records.change("engagements", corrected, occurred_at=CLOCK - 100 * DAY)
    story.refresh()
    assert story.factors == {"engagements_added": Factor("1 engagement was added", 1, {corrected})}


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (30, "the latest engagement is 31 days ago, was 1"),
        (90, "the latest engagement is 91 days ago, was 1"),
        (180, "the latest engagement is 181 days ago, was 1"),
    ],
)
def test_a_step_of_recency_is_told_in_days(story: Story, days: int, text: str) -> None:
    story.refresh(clock=CLOCK + days * DAY)
    assert story.factors["recency"].text == text


def test_a_new_engagement_after_a_silence_is_told_in_days(story: Story) -> None:
    story.refresh(clock=CLOCK + 60 * DAY)
    new = story.records.engagement(story.dossier, CLOCK + 59 * DAY)
    story.refresh()
    assert story.factors == {
        "engagements_added": Factor("1 engagement was added", 1, {new}),
        "recency": Factor("the latest engagement is 1 day ago, was 61", 1, set()),
    }


def test_no_engagement_any_more_is_told_in_words(story: Story) -> None:
    story.records.remove("engagements", *story.engagements)
    story.refresh()
    assert story.factors == {
        "engagements_removed": Factor("4 engagements were removed or moved", 4, set(story.engagements)),
        "recency": Factor("there is no engagement any more", 1, set()),
    }


# --- settings, types and moments --------------------------------------------------------------------------------


def test_other_settings_are_named_as_the_cause(story: Story) -> None:
    story.refresh(config=configuration(country={"yearly_target": 10}))
    assert story.factors == {"settings": Factor("the scoring settings changed", 1, set())}
    # Points of the steps changed, not the days: nothing is said of an engagement.
    points = {"fresh": 90, "recent": 60, "distant": 30, "silent": 0}
    story.refresh(config=configuration(country={"recency_points": points}))
    assert story.factors == {"settings": Factor("the scoring settings changed", 1, set())}


def test_settings_that_change_no_score_explain_nothing(story: Story) -> None:
    story.refresh(config=configuration(forum={"yearly_target": 10}))
    assert story.score.factors == []


def test_another_type_of_the_dossier_is_named_as_the_cause(story: Story) -> None:
    config = configuration(forum={"yearly_target": 10})
    story.refresh(config=config)
    story.records.change("dossiers", story.dossier, type="forum")
    story.refresh(config=config)
    assert story.factors == {"type": Factor("the type of the dossier changed, and with it its settings", 1, set())}


def test_a_score_of_an_earlier_moment_says_so_and_blames_no_record(story: Story) -> None:
    story.refresh(clock=CLOCK - 50 * DAY)
    assert story.factors == {
        "earlier_moment": Factor("the score is of an earlier moment than the one before", 1, set())
    }


# --- much at once -----------------------------------------------------------------------------------------------


def test_of_many_records_all_are_counted_and_twenty_named(story: Story) -> None:
    with story.database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO raw.commitments (tenant_id, id, dossier_id, status, due_date) "
                "SELECT 'default', gen_random_uuid(), :dossier, 'pending', :due FROM generate_series(1, 50)"
            ),
            {"dossier": story.dossier, "due": TODAY - DAY},
        )
    story.refresh()
    assert {name: (one.text, len(one.records)) for name, one in story.factors.items()} == {
        "commitments_overdue": ("50 commitments became overdue", 20),
        "commitments_added": ("50 commitments were added", 20),
    }
    with story.database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM raw.commitments WHERE due_date = :due"), {"due": TODAY - DAY})
    story.refresh()
    assert {name: (one.text, len(one.records)) for name, one in story.factors.items()} == {
        "commitments_no_longer_overdue": ("50 commitments are no longer overdue", 20),
        "commitments_gone": ("50 commitments were cancelled or removed", 20),
    }


def test_emptied_tables_are_explained_without_records(story: Story) -> None:
    with story.database.transaction() as connection:
        connection.execute(sa.text("TRUNCATE raw.engagements"))
        connection.execute(sa.text("TRUNCATE raw.commitments"))
    story.refresh()
    assert {name: (one.text, one.records) for name, one in story.factors.items()} == {
        "commitments_gone": ("2 commitments were cancelled or removed", set()),
        "engagements_removed": ("4 engagements were removed or moved", set()),
        "recency": ("there is no engagement any more", set()),
    }


def test_factors_are_complete_json_for_other_programs(story: Story) -> None:
    story.commitment(due_date=TODAY - DAY)
    story.refresh()
    for one in json.loads(json.dumps(story.score.factors)):
        assert set(one) == {"factor", "count", "text", "records"}
        assert isinstance(one["records"], list)
