"""Ids that a person wrote: the only place that turns them into what the database takes."""

from __future__ import annotations

from uuid import UUID

from dossier_pipelines.shared.failures import UserError


def parse_uuid(text: str, *, argument: str) -> str:
    """Return the UUID that ``text`` names in its usual form; raise UserError naming ``argument``."""
    try:
        return str(UUID(text.strip()))
    except ValueError as error:
        raise UserError(
            f"{argument} is {text!r}, which is no UUID. Ids are in the column dossier_id of dossiers.dossier_overview."
        ) from error
