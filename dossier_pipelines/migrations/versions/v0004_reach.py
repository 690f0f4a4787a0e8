"""Reach: how far snapshots go is told before they are taken, so that a load that is open meanwhile leaves marks."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the reach, and let the triggers look at it."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", r"\:"))
