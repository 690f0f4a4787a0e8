"""Corrections: other service levels and other dates of a task's creation reach the metrics of past days."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Mark what they overtake, and what they overtook before."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", r"\:"))
