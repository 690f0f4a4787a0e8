"""The people of every desk: one table, whichever source they come from."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from dossier_pipelines.ingestion.entity import Column, Kind
from dossier_pipelines.ingestion.tables import raw_table

USERS_TABLE: Final = raw_table(
    "users",
    "The people who own records, and are told",
    sa.Column("name", sa.Text, comment="Name"),
    sa.Column("email", sa.Text, comment="Mail address"),
    sa.Column("phone", sa.Text, comment="Telephone"),
    sa.Column("role", sa.Text, comment="Role"),
    sa.Column("locale", sa.Text, comment="Language for messages"),
    sa.Column("timezone", sa.Text, comment="IANA time zone of the person"),
    sa.Column("whatsapp", sa.Boolean, comment="Whether the person wants messages by WhatsApp, at phone; null: no"),
)

USERS_COLUMNS: Final = (
    Column(name="id", kind=Kind.KEY, column_required=True, value_required=True),
    Column(name="name"),
    Column(name="email"),
    Column(name="phone"),
    Column(name="role"),
    Column(name="locale"),
    Column(name="timezone", kind=Kind.TIMEZONE),
    Column(name="whatsapp", kind=Kind.BOOLEAN),
)
