"""Actions are known by what they say, removed tenants' rules rest, and results say when their run began."""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Change what of a rule is done, whose rules answer, and what the audit log tells."""
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", r"\:"))
