"""Ids that a person wrote: the only place that turns them into what the database takes."""

from __future__ import annotations

from uuid import UUID

from dossier_pipelines.shared.failures import UserError


def parse_uuid(text: str, *, argument: str, column: str = "dossier_id of dossiers.dossier_overview") -> str:
    """Return the UUID that ``text`` names in its usual form; raise UserError naming ``argument``.

    ``column`` is where a person finds such ids.
    """
    try:
        return str(UUID(text.strip()))
    except ValueError as error:
        raise UserError(f"{argument} is {text!r}, which is no UUID. Ids are in the column {column}.") from error
