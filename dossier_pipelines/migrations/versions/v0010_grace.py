"""The grace that tasks were judged with: another one judges them anew."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column; the next check fills it, and looks at every open task once."""
    op.execute("ALTER TABLE litigation.task_checks ADD COLUMN grace INTERVAL")
    op.execute(
        "COMMENT ON COLUMN litigation.task_checks.grace IS "
        r"'By how much a due date must have passed then; null\: not noted yet'"
    )
