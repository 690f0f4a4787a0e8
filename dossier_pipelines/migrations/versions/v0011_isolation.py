"""Nobody's rejected rows, bounded hours of service, and webhooks of rules that were given up."""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Change who sees rejected rows, what hours are taken, and what the log of rules tells."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", r"\:"))
