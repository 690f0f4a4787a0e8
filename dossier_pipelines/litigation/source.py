"""Where the desk's records come from: a source of many tenants, each row with the tenant that it belongs to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dossier_pipelines.ingestion.configured import ConfiguredSource
from dossier_pipelines.sample_data import LITIGATION_CLOCK, LITIGATION_DIRECTORY
from dossier_pipelines.shared.environment import Settings


@dataclass(frozen=True, kw_only=True)
class LitigationSource:
    """A source of many tenants, and the local time at which their records end; None means that they go on."""

    configured: ConfiguredSource
    local_clock: str | None


def litigation_source(settings: Settings) -> LitigationSource | None:
    """Return the source that the settings name; without any, the built-in sample.

    None where only the other desks have a source: the sample has no place beside an institution's own records.
    """
    if settings.litigation_source is not None:
        named = dataclasses.replace(settings, source=settings.litigation_source, mapping=settings.litigation_mapping)
        return LitigationSource(configured=ConfiguredSource(named, clock_at=None), local_clock=None)
    if settings.source is not None:
        return None
    sample = dataclasses.replace(settings, source=str(LITIGATION_DIRECTORY), mapping=None)
    return LitigationSource(configured=ConfiguredSource(sample, clock_at=None), local_clock=LITIGATION_CLOCK)
