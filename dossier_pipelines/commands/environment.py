"""`dossier-pipelines env`: the exports with which other programs work on the project's database."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from dossier_pipelines.commands.database import bring_up_to_date
from dossier_pipelines.shared.deployment import prepare_dagster, running
from dossier_pipelines.shared.embedded_postgres import binary
from dossier_pipelines.shared.environment import Settings


def print_exports(settings: Settings) -> None:
    """Start the database, leave it running, and print one export a line for ``eval``."""
    with running(settings, keep_running=True) as deployment:
        bring_up_to_date(deployment)
        prepare_dagster(deployment)
        exports = deployment.environment()
        programs = [str(Path(sys.executable).parent), str(binary("psql").parent)]
    # On stderr, so that whoever evaluates the rest sees it.
    print("The database runs on, until `dossier-pipelines db stop`.", file=sys.stderr)
    print('# eval "$(dossier-pipelines env)"')
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH="$PATH":{shlex.quote(":".join(programs))}')
