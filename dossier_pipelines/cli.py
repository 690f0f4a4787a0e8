"""`dossier-pipelines`: up, run, backfill, env, db, notifications and rules.

Exit codes: 0 done, 1 the run failed, 2 bad usage.

Wiring only: what a command does lives in commands/.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from dossier_pipelines.shared.environment import Settings, read_settings
from dossier_pipelines.shared.failures import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
db = typer.Typer(no_args_is_help=True, help="The project's database: migrate, back up, restore, reset, grant, stop.")
app.add_typer(db, name="db")
notifications = typer.Typer(no_args_is_help=True, help="Notifications: replay those that were given up.")
app.add_typer(notifications, name="notifications")
rules = typer.Typer(no_args_is_help=True, help="Automation rules: replay what they gave up.")
app.add_typer(rules, name="rules")

DataDirectory = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the embedded database lives. Default: .dossier")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show logs, and the traceback of a failure.")]


def _settings(data_directory: Path | None) -> Settings:
    # Runs read the environment themselves, so that an option becomes a variable.
    if data_directory is not None:
        _forget_exports_of_other_than(data_directory)
        os.environ["DOSSIER_DATA_DIR"] = str(data_directory)
    return read_settings()


def _forget_exports_of_other_than(data_directory: Path) -> None:
    """What `env` exported of another embedded server does not hold for the directory that an option names."""
    from dossier_pipelines.shared.embedded_postgres import EmbeddedPostgres

    exported = read_settings()
    if (
        exported.database_url == EmbeddedPostgres(exported.data_directory).url()
        and exported.data_directory.resolve() != data_directory.resolve()
    ):
        for name in ("DOSSIER_DATABASE_URL", "DAGSTER_PG_URL", "DAGSTER_HOME"):
            os.environ.pop(name, None)


@app.command()
def up(
    data_dir: DataDirectory = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI, on 127.0.0.1.")] = 3000,
    verbose: Verbose = False,
) -> None:
    """Start everything and serve the Dagster UI; Ctrl-C stops all of it."""
    from dossier_pipelines.commands.up import serve

    serve(_settings(data_dir), port=port)


@app.command()
def run(
    source: Annotated[
        str | None, typer.Option(help="A folder, an SQLAlchemy URL or a REST base URL. Default: the built-in sample.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A mapping file, TOML or YAML.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="The moment to compute for, ISO 8601. Default: now, or the sample's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Load a source, refresh every score and check all of it, once."""
    from dossier_pipelines.commands.run import run_once

    if source is not None:
        os.environ["DOSSIER_SOURCE"] = source
    if mapping is not None:
        os.environ["DOSSIER_MAPPING"] = str(mapping)
    run_once(_settings(data_dir), as_of=as_of, as_json=as_json, verbose=verbose)


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", help="The first day, such as 2019-01-01.")],
    last: Annotated[str, typer.Option("--to", help="The last day.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Take the daily snapshots of a range of past days, however long, in one run."""
    from dossier_pipelines.commands import backfill as command

    command.backfill(_settings(data_dir), first=first, last=last, as_json=as_json, verbose=verbose)


@app.command()
def env(data_dir: DataDirectory = None, verbose: Verbose = False) -> None:
    """Start the database and print the exports with which dagster, dg and psql work on it."""
    from dossier_pipelines.commands.environment import print_exports

    print_exports(_settings(data_dir))


@db.command()
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL and touch nothing.")] = False,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Take no backup first.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Bring the database to the newest version; a database that holds data is backed up first."""
    from dossier_pipelines.commands import database

    database.migrate(_settings(data_dir), dry_run=dry_run, take_backup=not no_backup)


@db.command()
def backup(file: Path, data_dir: DataDirectory = None, verbose: Verbose = False) -> None:
    """Write the project's data into FILE."""
    from dossier_pipelines.commands import database

    database.backup(_settings(data_dir), file)


@db.command()
def restore(
    file: Path,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Replace the project's data by that of FILE, all of it or nothing."""
    from dossier_pipelines.commands import database

    if not yes:
        typer.confirm("This replaces everything that the project keeps. Go on?", abort=True, err=True)
    database.restore(_settings(data_dir), file)


@db.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Drop everything that the project keeps and build it empty."""
    from dossier_pipelines.commands import database

    if not yes:
        typer.confirm("This deletes everything that the project keeps. Go on?", abort=True, err=True)
    database.reset(_settings(data_dir))


@db.command()
def grant(
    role: Annotated[str, typer.Argument(help="A database role that exists and logs in.")],
    tenant: Annotated[list[str] | None, typer.Option(help="A tenant whose rows it may read; may be repeated.")] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="Every tenant's rows.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Let a database role of an analyst read the rows of some tenants, and nobody else's."""
    from dossier_pipelines.commands import database

    database.grant(_settings(data_dir), role, tenant or [], everybody=all_tenants)


@db.command()
def stop(data_dir: DataDirectory = None, verbose: Verbose = False) -> None:
    """Stop the embedded database."""
    from dossier_pipelines.commands import database

    database.stop(_settings(data_dir))


@notifications.command()
def replay(
    notification_id: Annotated[str | None, typer.Option("--id", help="One notification.")] = None,
    kind: Annotated[str | None, typer.Option(help="All of a kind, such as commitment_overdue.")] = None,
    channel: Annotated[str | None, typer.Option(help="All of a channel: email, whatsapp or webhook.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Queue dead deliveries anew, when what killed them is mended."""
    from dossier_pipelines.commands.notifications import replay_deliveries

    if not (notification_id or kind or channel or everything):
        raise typer.BadParameter("name what to replay with --id, --kind or --channel, or say --all.")
    if channel not in {None, "email", "whatsapp", "webhook"}:
        raise typer.BadParameter(f"--channel is {channel!r}; name email, whatsapp or webhook.")
    replay_deliveries(_settings(data_dir), notification_id=notification_id, kind=kind, channel=channel)


@rules.command(name="replay")
def replay_rules(
    tenant_id: Annotated[str | None, typer.Option("--tenant", help="All of a tenant's rules.")] = None,
    rule_id: Annotated[str | None, typer.Option("--id", help="One rule.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    data_dir: DataDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Try again what automation rules gave up, when what failed is mended."""
    from dossier_pipelines.commands.rules import replay_executions

    if not (tenant_id or rule_id or everything):
        raise typer.BadParameter("name what to replay with --tenant or --id, or say --all.")
    replay_executions(_settings(data_dir), tenant_id=tenant_id, rule_id=rule_id)


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and exit code 1."""
    # kill and Ctrl-C end a command alike: what it started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        app()
    except UserError as error:
        if "--verbose" in sys.argv:
            raise
        print(f"dossier-pipelines: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
