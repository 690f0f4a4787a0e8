"""`make bench`: prints a table, and writes benchmarks/results/{results.json,table.md,plans.txt}."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.acting import acting_plans, measure_acting
from benchmarks.history import history_plans, measure_history
from benchmarks.launching import measure_launching
from benchmarks.litigating import litigating_plans, measure_litigating
from benchmarks.loading import bare_copy, load_in_a_process
from benchmarks.records import CLOCK, SCALES, export_records
from benchmarks.refreshing import (
    after_touching,
    full_refreshes,
    hand_written,
    original_way,
    plans,
    refresh,
    seconds_of,
    vacuum,
)
from benchmarks.replaying import replay
from dossier_pipelines.migrations.runner import migrate
from dossier_pipelines.shared.database import (
    DAGSTER_DRIVER,
    Database,
    create_database,
    create_missing_database,
    database_url,
)
from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres

RESULTS = Path(__file__).parent / "results"


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def measure(url: str, factor: int, folder: Path) -> tuple[dict[str, Any], str]:
    """Return every figure of one scale, and the plans of its incremental refresh."""
    scale = SCALES[factor]
    create_missing_database(database_url(url))
    database = create_database(url)
    migrate(database)
    say(f"x{factor}: writing {scale.engagements:,} engagements as CSV")
    export_records(database, scale, folder)
    figures: dict[str, Any] = {
        "factor": factor,
        "dossiers": scale.dossiers,
        "engagements": scale.engagements,
        "commitments": scale.commitments,
    }
    say(f"x{factor}: loading")
    load_in_a_process(url, folder, "dossiers")
    figures["bare_copy_s"] = bare_copy(database, folder, "engagements")
    first = load_in_a_process(url, folder, "engagements")
    again = load_in_a_process(url, folder, "engagements")
    commitments = load_in_a_process(url, folder, "commitments")
    if (first.rows["inserted"], again.rows["unchanged"]) != (scale.engagements, scale.engagements):
        raise RuntimeError(f"not everything was loaded: {first}, {again}")
    figures |= {
        "load_s": first.seconds,
        "load_again_s": again.seconds,
        "load_commitments_s": commitments.seconds,
        "load_speed_of_bare_copy": figures["bare_copy_s"] / first.seconds,
        "unchanged_speed_of_first_load": first.seconds / again.seconds,
        "unchanged_speed_of_bare_copy": figures["bare_copy_s"] / again.seconds,
        "python_memory_mb": max(first.memory_mb, again.memory_mb, commitments.memory_mb),
    }
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE platform.tenants SET clock_at = :clock"), {"clock": CLOCK})
    say(f"x{factor}: refreshing")
    times = 5 if factor < 100 else 3
    figures["first_refresh_s"] = seconds_of(lambda: refresh(database), times=1)
    vacuum(database)
    figures["full_refresh_s"] = full_refreshes(database, times=times)
    figures["hand_written_s"] = hand_written(database, times=times)
    vacuum(database)
    figures["one_percent_s"] = after_touching(database, scale.dossiers // 100, times=times)
    figures["one_dossier_s"] = after_touching(database, 1, times=9)
    figures["nothing_s"] = seconds_of(lambda: refresh(database), times=9)
    say(f"x{factor}: the original's way")
    figures["original_views_s"], figures["original_loop_s"] = original_way(database)
    figures |= {
        "full_of_hand_written": figures["full_refresh_s"] / figures["hand_written_s"],
        "full_of_one_percent": figures["full_refresh_s"] / figures["one_percent_s"],
        "original_of_full": (figures["original_views_s"] + figures["original_loop_s"]) / figures["full_refresh_s"],
    }
    text = plans(database, dossiers=max(1, scale.dossiers // 100))
    database.engine.dispose()
    return figures, text


ROWS = (
    ("dossiers", "dossiers", "{:,.0f}"),
    ("engagements", "engagements", "{:,.0f}"),
    ("commitments", "commitments", "{:,.0f}"),
    ("bare COPY of the engagements", "bare_copy_s", "{:.2f} s"),
    ("load, validated and merged", "load_s", "{:.2f} s"),
    ("the same file again", "load_again_s", "{:.2f} s"),
    ("**load: speed of bare COPY** (at least 0.8)", "load_speed_of_bare_copy", "{:.2f}"),
    ("**again: speed of the load** (at least 2)", "unchanged_speed_of_first_load", "{:.2f}"),
    ("again: speed of bare COPY", "unchanged_speed_of_bare_copy", "{:.2f}"),
    ("**Python's memory** (under 300 MB)", "python_memory_mb", "{:.0f} MB"),
    ("first refresh, nothing there", "first_refresh_s", "{:.3f} s"),
    ("full refresh", "full_refresh_s", "{:.3f} s"),
    ("one hand-written statement", "hand_written_s", "{:.3f} s"),
    ("**full: times hand-written** (at most 1.5)", "full_of_hand_written", "{:.2f}"),
    ("refresh after 1% changed", "one_percent_s", "{:.4f} s"),
    ("**1%: times faster than full** (at least 20)", "full_of_one_percent", "{:.1f}"),
    ("**one dossier changed** (under 0.020 s)", "one_dossier_s", "{:.4f} s"),
    ("nothing changed", "nothing_s", "{:.4f} s"),
    ("original: two views, concurrently", "original_views_s", "{:.2f} s"),
    ("original: one calculation a dossier", "original_loop_s", "{:.2f} s"),
    ("original: times full", "original_of_full", "{:.1f}"),
)


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a markdown table, a column per scale."""
    lines = [
        "| |" + "|".join(f"x{result['factor']}" for result in results) + "|",
        "|---" + "|---:" * len(results) + "|",
    ]
    for label, key, form in ROWS:
        lines.append(f"| {label} |" + "|".join(form.format(result[key]) for result in results) + "|")
    return "\n".join(lines)


def measure_and_write_acting(url: str) -> None:
    """Measure detection, recording and delivery, and write the figures and the plans."""
    say("acting: detecting, recording, delivering")
    create_missing_database(database_url(url))
    database = create_database(url)
    migrate(database)
    figures = measure_acting(database, url)
    (RESULTS / "acting.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "acting.md").write_text(_two_columns("acting", ACTING_ROWS, figures) + "\n", encoding="utf-8")
    (RESULTS / "acting_plans.txt").write_text(acting_plans(database) + "\n", encoding="utf-8")
    database.engine.dispose()


ACTING_ROWS = (
    ("**detecting 50 late commitments of 5,000** (under 0.05 s)", "detect_50_of_5000_s", "{:.4f} s"),
    ("**detecting 10,000 of 1,000,000** (under 3 s)", "detect_10000_of_1000000_s", "{:.2f} s"),
    ("**recording 100,000 notifications** (under 5 s)", "record_100000_s", "{:.2f} s"),
    ("a bare loop mails", "bare_email_per_s", "{:,.0f} a second"),
    ("**delivery mails** (at least 1,000)", "deliver_email_per_s", "{:,.0f} a second"),
    ("**mail: share of the bare loop** (at least 0.8)", "email_of_bare", "{:.2f}"),
    ("a bare loop posts", "bare_webhook_per_s", "{:,.0f} a second"),
    ("**delivery posts** (at least 1,000)", "deliver_webhook_per_s", "{:,.0f} a second"),
    ("**posts: share of the bare loop** (at least 0.8)", "webhook_of_bare", "{:.2f}"),
    ("**delivery: memory** (at most 200 MB)", "deliver_webhook_memory_mb", "{:.0f} MB"),
    ("delivery with 1,000,000 sent before", "deliver_after_1000000_per_s", "{:,.0f} a second"),
    ("delivery while an old snapshot is held", "deliver_under_old_snapshot_per_s", "{:,.0f} a second"),
)


def measure_and_write_history(server: EmbeddedPostgres, home: Path) -> None:
    """Measure the snapshots of all of the sample's days, and write the figures and the plans."""
    say("history: 6,694 days of the sample")
    database, url, storage = _with_dagsters(server, "bench_history")
    figures = measure_history(database, url, storage, home)
    (RESULTS / "history.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "history.md").write_text(_two_columns("history", HISTORY_ROWS, figures) + "\n", encoding="utf-8")
    (RESULTS / "history_plans.txt").write_text(history_plans(database) + "\n", encoding="utf-8")
    database.engine.dispose()


HISTORY_ROWS = (
    ("dossiers and days", "dossier_days", "{:,.0f}"),
    ("**all days of the sample, one pass** (under 40 s)", "whole_s", "{:.1f} s"),
    ("the same again, nothing to write", "whole_again_s", "{:.1f} s"),
    ("one query a day in a loop, a day", "loop_day_s", "{:.4f} s"),
    ("**loop: times one pass** (at least 50)", "loop_of_whole", "{:.0f}"),
    ("**a year of all dossiers** (under 3 s)", "year_s", "{:.2f} s"),
    ("**a single day** (under 0.3 s)", "single_day_s", "{:.3f} s"),
    ("restating one dossier, 11 months", "restate_one_s", "{:.3f} s"),
    ("**reading one dossier's course** (under 0.010 s)", "course_s", "{:.4f} s"),
    ("reading one day of all dossiers", "day_read_s", "{:.4f} s"),
    ("rows as stored, in spans", "spans", "{:,.0f}"),
    ("size as stored", "spans_mb", "{:.0f} MB"),
    ("size with a row a day", "plain_form_mb", "{:.0f} MB"),
    ("writing a row a day, alone", "plain_form_write_s", "{:.0f} s"),
    ("**a year's run, start of the job to its end** (under 15 s)", "year_run_s", "{:.1f} s"),
    ("a run of all days", "whole_run_s", "{:.1f} s"),
    ("a run of all days that does nothing", "whole_nothing_s", "{:.1f} s"),
    ("**allowed for it: one pass and 1.3 times nothing**", "run_allowed_s", "{:.1f} s"),
    ("**memory of that run** (under 300 MB)", "whole_memory_mb", "{:.0f} MB"),
)


def prove_and_write_replaying(url: str) -> None:
    """Tell the sample again day by day, and write how many rows were compared and how many differ."""
    say("replaying: the sample, day by day")
    create_missing_database(database_url(url))
    database = create_database(url)
    migrate(database)
    figures = replay(database, say)
    (RESULTS / "replaying.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "replaying.md").write_text(_two_columns("replaying", REPLAYING_ROWS, figures) + "\n", encoding="utf-8")
    database.engine.dispose()


REPLAYING_ROWS = (
    ("days told again, each with a refresh of what was stale", "days", "{:,.0f}"),
    ("rows compared with the day's snapshot", "rows_compared", "{:,.0f}"),
    ("**rows that differ** (none)", "rows_that_differ", "{:,.0f}"),
)


def measure_and_write_litigating(server: EmbeddedPostgres) -> None:
    """Measure the litigation desk, and write the figures and the plans."""
    say("litigating: checks, mornings, metrics")
    databases = []
    for name in ("history", "load", "many", "runs"):
        url = server.url(f"bench_litigating_{name}")
        create_missing_database(database_url(url))
        databases.append(create_database(url))
        migrate(databases[-1])
    figures = measure_litigating(*databases)
    (RESULTS / "litigating.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "litigating.md").write_text(
        _two_columns("litigating", LITIGATING_ROWS, figures) + "\n", encoding="utf-8"
    )
    (RESULTS / "litigating_plans.txt").write_text(litigating_plans(databases[0]) + "\n", encoding="utf-8")
    for database in databases:
        database.engine.dispose()


EXPECTED = {
    "check_sla_and_overdue_job": "2-5 s",
    "send_hearing_reminders_job": "5-15 s",
    "analytics_snapshot_job": "10-30 s",
    "check_upcoming_deadlines_job": "3-8 s",
    "automation_health_check_job": "2-5 s",
}
"""What the original's jobs were expected to take."""

LITIGATING_ROWS = (
    ("the sample loaded: 28 tenants, 53,671 records", "sample_load_s", "{:.2f} s"),
    ("values of daily metrics", "values", "{:,.0f}"),
    ("all of the sample's days, one run, judged", "history_s", "{:.1f} s"),
    ("**of it in the database** (under 20 s)", "history_database_s", "{:.1f} s"),
    ("the same again, nothing to write", "history_again_s", "{:.1f} s"),
    ("metrics of a day of 2019, and of what came after it", "metrics_of_a_day_s", "{:.3f} s"),
    ("metrics of the newest day", "metrics_of_the_newest_day_s", "{:.3f} s"),
    ("of it in the database", "metrics_of_the_newest_day_database_s", "{:.3f} s"),
    ("a late document a tenant, of 16 years: their days restated", "restate_s", "{:.1f} s"),
    ("transactions of it", "restate_transactions", "{:,.0f}"),
    ("values that changed", "restated_values", "{:,.0f}"),
    ("10,000 tasks: the plain way, one by one", "plain_check_s", "{:.2f} s"),
    ("10,000 tasks: the first check, all that is late recorded", "first_check_s", "{:.3f} s"),
    ("the plain way: times ours", "plain_of_check", "{:.1f}"),
    ("**10,000 tasks of a tenant: the check** (under 0.3 s)", "check_s", "{:.3f} s"),
    ("1,000 tenants of 10,000 tasks: the first check", "first_check_of_many_s", "{:.1f} s"),
    ("**1,000 tenants, 1% of ten million changed: the check** (under 10 s)", "check_of_many_s", "{:.2f} s"),
    ("1,000 tenants, nothing changed", "idle_check_of_many_s", "{:.3f} s"),
    *(
        row
        for job in EXPECTED
        for row in (
            (f"{job}, from launch to end, Dagster's storage in memory", f"run_{job}_s", "{:.2f} s"),
            (f"{job}: the original's logic alone", f"plain_{job}_s", "{:.3f} s"),
        )
    ),
    ("**10,000 hearing reminders recorded** (under 2 s)", "remind_s", "{:.2f} s"),
    ("reminders", "remind_messages", "{:,.0f}"),
    ("deadline alerts", "alert_s", "{:.2f} s"),
    ("alerts", "alert_messages", "{:,.0f}"),
)


def measure_and_write_launching(server: EmbeddedPostgres, home: Path) -> None:
    """Measure the litigation desk's jobs from tick to end, and write the figures."""
    say("launching: from tick to end")
    database, url, storage = _with_dagsters(server, "bench_launching")
    figures = measure_launching(database, url, storage, home)
    (RESULTS / "launching.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "launching.md").write_text(_two_columns("launching", LAUNCHING_ROWS, figures) + "\n", encoding="utf-8")
    database.engine.dispose()


LAUNCHING_ROWS = tuple(
    row
    for job, expected in EXPECTED.items()
    for row in (
        (f"**{job}, from tick to end** (original: {expected})", f"tick_to_end_{job}_s", "{:.2f} s"),
        (f"{job}: the run alone", f"run_alone_{job}_s", "{:.2f} s"),
    )
)


def _with_dagsters(server: EmbeddedPostgres, name: str) -> tuple[Database, str, str]:
    """Return a migrated database and its URL, and that of an empty one for Dagster's storage."""
    url, dagster_url = server.url(name), server.url(f"{name}_dagster")
    create_missing_database(database_url(url))
    create_missing_database(database_url(dagster_url))
    database = create_database(url)
    migrate(database)
    return database, url, database_url(dagster_url, driver=DAGSTER_DRIVER).render_as_string(hide_password=False)


def _two_columns(title: str, rows: tuple[tuple[str, str, str], ...], figures: dict[str, Any]) -> str:
    return "\n".join([f"| {title} | |", "|---|---:|", *(f"| {a} | {f.format(figures[k])} |" for a, k, f in rows)])


def main() -> None:
    """Measure the chosen scales on a server of their own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scales", type=int, nargs="+", default=sorted(SCALES), choices=sorted(SCALES))
    parser.add_argument(
        "--only",
        choices=["refreshing", "acting", "history", "litigating", "launching", "replaying"],
        help="One part of the measurements; replaying, a proof of ten minutes, only runs when it is named.",
    )
    parser.add_argument("--directory", type=Path, help="Where to work; 5 GB at x100. Default: a temporary one.")
    arguments = parser.parse_args()
    os.environ.pop("DOSSIER_SOURCE", None)
    work = Path(tempfile.mkdtemp(prefix="dossier-bench-", dir=arguments.directory))
    server = EmbeddedPostgres(work / "server")
    results: list[dict[str, Any]] = []
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir()
    try:
        server.start()
        for factor in arguments.scales if arguments.only in {None, "refreshing"} else ():
            figures, text = measure(server.url(f"bench_{factor}"), factor, work / f"x{factor}")
            results.append(figures)
            (RESULTS / "plans.txt").write_text(f"Plans at x{factor}, 1% changed\n\n{text}\n", encoding="utf-8")
            document = {"python": platform.python_version(), "cores": os.cpu_count(), "results": results}
            (RESULTS / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            (RESULTS / "table.md").write_text(table(results) + "\n", encoding="utf-8")
        if arguments.only in {None, "acting"}:
            measure_and_write_acting(server.url("bench_acting"))
        if arguments.only in {None, "history"}:
            measure_and_write_history(server, work / "dagster")
        if arguments.only in {None, "litigating"}:
            measure_and_write_litigating(server)
        if arguments.only in {None, "launching"}:
            measure_and_write_launching(server, work / "deployment")
        if arguments.only == "replaying":
            prove_and_write_replaying(server.url("bench_replaying"))
    finally:
        server.release()
        shutil.rmtree(work, ignore_errors=True)
    for name in ("table.md", "acting.md", "history.md", "litigating.md", "launching.md", "replaying.md"):
        if (RESULTS / name).exists():
            print((RESULTS / name).read_text(encoding="utf-8"))
    print(f"\nAlso in {RESULTS}: results.json, table.md, plans.txt", file=sys.stderr)


if __name__ == "__main__":
    main()
