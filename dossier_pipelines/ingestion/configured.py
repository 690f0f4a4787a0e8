"""The source that the settings name, ready to load: what raw assets receive."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.load import LoadResult, load_entity
from dossier_pipelines.ingestion.mapping import read_mapping
from dossier_pipelines.ingestion.sources.source import Source
from dossier_pipelines.ingestion.tenants import register_tenant
from dossier_pipelines.sample_data import SAMPLE_AS_OF, SAMPLE_DIRECTORY, SAMPLE_TENANT
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import DEFAULT_TENANT, Settings
from dossier_pipelines.shared.failures import SourceError


@dataclass(frozen=True)
class ConfiguredSource:
    """A source, its mapping, and the tenant whose records it holds."""

    settings: Settings
    clock_at: datetime | None
    """The moment at which the records end; None means that they go on."""

    def load(
        self,
        database: Database,
        entity: Entity,
        *,
        known: Mapping[str, Entity],
        run_id: str | None = None,
        noticed_at: datetime | None = None,
    ) -> LoadResult | None:
        """Load ``entity``; ``known`` names every entity that the mapping file may speak of.

        ``noticed_at`` is from when on a change counts that the source does not date; without it, the tenant's clock.

        Returns None when the source does not have this optional entity; raises UserError with nothing merged.
        """
        mapping = read_mapping(self.settings.mapping, known)
        source = open_source(self.settings)
        if not entity.tenant:
            register_tenant(
                database,
                tenant_id=self.settings.tenant_id,
                timezone=self.settings.timezone,
                clock_at=self.clock_at,
            )
        return load_entity(
            database, entity, source, mapping, settings=self.settings, run_id=run_id, noticed_at=noticed_at
        )


def configured_source(settings: Settings) -> ConfiguredSource:
    """Return the source of the settings; without one, the built-in sample in a tenant of its own."""
    if settings.source is not None:
        return ConfiguredSource(settings, clock_at=None)
    tenant_id = SAMPLE_TENANT if settings.tenant_id == DEFAULT_TENANT else settings.tenant_id
    sample = dataclasses.replace(settings, source=str(SAMPLE_DIRECTORY), mapping=None, tenant_id=tenant_id)
    return ConfiguredSource(sample, clock_at=datetime.fromisoformat(SAMPLE_AS_OF))


def open_source(settings: Settings) -> Source:
    """Return the source that the settings name: a REST API, a database, or a folder."""
    name = settings.source
    if name is None:
        raise SourceError("No source is set. Name a folder or a URL with DOSSIER_SOURCE.")
    if name.startswith(("http://", "https://")):
        from dossier_pipelines.ingestion.sources.rest import RestSource

        return RestSource(name, api_key=settings.source_api_key)
    if "://" in name:
        from dossier_pipelines.ingestion.sources.sql import SqlSource

        return SqlSource(name, timezone=settings.timezone)
    from dossier_pipelines.ingestion.sources.files import FolderSource

    return FolderSource(Path(name).expanduser())
