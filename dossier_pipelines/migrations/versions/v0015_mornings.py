"""Mornings that reach to the next, tasks that are done when they come, hours of service in one place."""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Say what a day's job reaches to, which tasks came, and since when they are checked."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", r"\:"))
