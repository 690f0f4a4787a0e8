"""Channels: a notification may name its own, and a person may want messages by WhatsApp."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what planning looks at, and let the explanation tell of it."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", r"\:"))
