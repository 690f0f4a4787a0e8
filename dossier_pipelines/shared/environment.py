"""Every setting, read from the environment once, by name, with its default.

Other modules take ``Settings``, never ``os.environ``. Nothing is read at import: definitions load without any
variable set, and a wrong value fails by its name when it is first needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dossier_pipelines.shared.clock import zone
from dossier_pipelines.shared.failures import SettingError

DEFAULT_TENANT: Final = "default"
DEFAULT_TIMEZONE: Final = "Asia/Riyadh"
DEFAULT_DATA_DIRECTORY: Final = ".dossier"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one process. Secrets are named here, and shown nowhere."""

    database_url: str | None = None
    """A PostgreSQL server of yours; None means the embedded one."""
    data_directory: Path = Path(DEFAULT_DATA_DIRECTORY)
    """Where the embedded database and Dagster's files live."""
    source: str | None = None
    """A folder, an SQLAlchemy URL or a REST base URL; None means the built-in sample."""
    mapping: Path | None = None
    """A mapping file, TOML or YAML, that translates the source's names."""
    source_api_key: str | None = None
    """The key that a REST source asks for."""
    tenant_id: str = DEFAULT_TENANT
    timezone: str = DEFAULT_TIMEZONE
    health_config: Path | None = None
    """A TOML file with other weights and thresholds than the built-in ones."""
    max_rejected_share: float = 0.5
    """An entity with a larger share of bad rows than this is not merged at all."""
    full_refresh: bool = False
    """Rows that the source no longer has are removed, up to max_removed_share."""
    max_removed_share: float = 0.2
    allow_empty: bool = False
    """Accept a source that holds no rows."""


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "").strip()
    return Path(value).expanduser() if value else None


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "").strip().lower()
    if value in {"", "0", "false", "no", "off"}:
        return False
    if value in {"1", "true", "yes", "on"}:
        return True
    raise SettingError(f"{name} is {value!r}; write true or false.")


def _share(environ: Mapping[str, str], name: str, default: float) -> float:
    value = environ.get(name, "").strip()
    if not value:
        return default
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SettingError(f"{name} is {value!r}; write a share between 0 and 1, such as {default}.")
    return share


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; raise SettingError naming the variable and the legal values."""
    environ = os.environ if environ is None else environ
    tenant_id = environ.get("DOSSIER_TENANT", "").strip() or DEFAULT_TENANT
    if not (tenant_id.replace("_", "").replace("-", "").isalnum() and tenant_id.isascii() and len(tenant_id) <= 40):
        raise SettingError(f"DOSSIER_TENANT is {tenant_id!r}; use at most 40 letters, digits, hyphens and underscores.")
    timezone = environ.get("DOSSIER_TIMEZONE", "").strip() or DEFAULT_TIMEZONE
    zone(timezone, setting="DOSSIER_TIMEZONE")
    return Settings(
        database_url=environ.get("DOSSIER_DATABASE_URL", "").strip() or None,
        data_directory=_path(environ, "DOSSIER_DATA_DIR") or Path(DEFAULT_DATA_DIRECTORY),
        source=environ.get("DOSSIER_SOURCE", "").strip() or None,
        mapping=_path(environ, "DOSSIER_MAPPING"),
        source_api_key=environ.get("DOSSIER_SOURCE_API_KEY") or None,
        tenant_id=tenant_id,
        timezone=timezone,
        health_config=_path(environ, "DOSSIER_HEALTH_CONFIG"),
        max_rejected_share=_share(environ, "DOSSIER_MAX_REJECTED_SHARE", Settings.max_rejected_share),
        full_refresh=_flag(environ, "DOSSIER_FULL_REFRESH"),
        max_removed_share=_share(environ, "DOSSIER_MAX_REMOVED_SHARE", Settings.max_removed_share),
        allow_empty=_flag(environ, "DOSSIER_ALLOW_EMPTY"),
    )
