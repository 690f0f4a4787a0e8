"""The health formula, in plain Python: the rules that sql/health_as_of.sql follows, and their settings.

Pure code. The database computes the scores; this is the reference that tests hold it to, and the check of the
settings. Source: dossiers specification, "Health score, per dossier". All arithmetic is exact decimals, rounded
half away from zero.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dossier_pipelines.shared.failures import SettingError

DAY: Final = timedelta(hours=24)
ANY_TYPE: Final = "*"
ENDED: Final = ("completed", "cancelled")

# Strict: `true` and "50" are no numbers.
Days = Annotated[int, Field(ge=0, le=36_500, strict=True)]
Points = Annotated[int, Field(ge=0, le=100, strict=True)]


class Weights(BaseModel):
    """Shares of the three components; they sum to exactly 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    engagement: Decimal = Field(ge=0, le=1, max_digits=5, decimal_places=4)
    commitment: Decimal = Field(ge=0, le=1, max_digits=5, decimal_places=4)
    recency: Decimal = Field(ge=0, le=1, max_digits=5, decimal_places=4)


class RecencyDays(BaseModel):
    """The last whole day of each step."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fresh: Days
    recent: Days
    distant: Days


class RecencyPoints(BaseModel):
    """The points of each step; silent is beyond the last, or no engagement at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fresh: Points
    recent: Points
    distant: Points
    silent: Points


class BandEdges(BaseModel):
    """The lowest score of each band; poor is below fair."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    excellent: Points
    good: Points
    fair: Points


class HealthSettings(BaseModel):
    """How the dossiers of one type are scored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    weights: Weights
    yearly_target: int = Field(ge=1, le=10_000, strict=True)
    min_engagements: int = Field(ge=0, le=10_000, strict=True)
    min_commitments: int = Field(ge=0, le=10_000, strict=True)
    recency_days: RecencyDays
    recency_points: RecencyPoints
    bands: BandEdges

    def require_order(self, place: str) -> None:
        """Raise SettingError naming the setting when weights do not sum to 1 or steps are out of order."""
        total = self.weights.engagement + self.weights.commitment + self.weights.recency
        if total != 1:
            raise SettingError(f"{place}.weights sum to {total}, not to 1. Correct engagement, commitment or recency.")
        days, points, bands = self.recency_days, self.recency_points, self.bands
        if not days.fresh < days.recent < days.distant:
            raise SettingError(
                f"{place}.recency_days are out of order: fresh {days.fresh}, recent {days.recent}, distant "
                f"{days.distant} must rise."
            )
        if not points.fresh >= points.recent >= points.distant >= points.silent:
            raise SettingError(
                f"{place}.recency_points are out of order: fresh, recent, distant, silent must not rise."
            )
        if not bands.excellent > bands.good > bands.fair:
            raise SettingError(
                f"{place}.bands are out of order: excellent {bands.excellent}, good {bands.good}, fair {bands.fair} "
                "must fall."
            )


@dataclass(frozen=True)
class HealthConfig:
    """The settings of every dossier type, and their version."""

    by_type: dict[str, HealthSettings]

    def of(self, dossier_type: str | None) -> HealthSettings:
        """Return the settings for ``dossier_type``, the defaults where it has none of its own."""
        return self.by_type.get(dossier_type or ANY_TYPE, self.by_type[ANY_TYPE])

    @property
    def version(self) -> str:
        """A hash of all settings: equal settings have equal versions, wherever they were written down."""
        text = json.dumps(self.rows(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def rows(self) -> list[dict[str, str | int]]:
        """Return one row per type in the columns of dossiers.health_settings."""
        return [
            {
                "dossier_type": name,
                "weight_engagement": f"{settings.weights.engagement:.4f}",
                "weight_commitment": f"{settings.weights.commitment:.4f}",
                "weight_recency": f"{settings.weights.recency:.4f}",
                "yearly_target": settings.yearly_target,
                "min_engagements": settings.min_engagements,
                "min_commitments": settings.min_commitments,
                "fresh_days": settings.recency_days.fresh,
                "recent_days": settings.recency_days.recent,
                "distant_days": settings.recency_days.distant,
                "fresh_points": settings.recency_points.fresh,
                "recent_points": settings.recency_points.recent,
                "distant_points": settings.recency_points.distant,
                "silent_points": settings.recency_points.silent,
                "excellent_from": settings.bands.excellent,
                "good_from": settings.bands.good,
                "fair_from": settings.bands.fair,
            }
            for name, settings in sorted(self.by_type.items())
        ]


def read_health_config(path: Path | None = None) -> HealthConfig:
    """Read and check the settings, the built-in ones by default; raise SettingError naming the setting."""
    if path is None:
        place = "health.toml"
        text = resources.files("dossier_pipelines.dossiers").joinpath("health.toml").read_text(encoding="utf-8")
    else:
        place = str(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"DOSSIER_HEALTH_CONFIG names {path}, which cannot be read: {error}.") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{place} is no valid TOML: {error}.") from error
    return parse_health_config(content, place=place)


def parse_health_config(content: dict[str, Any], *, place: str) -> HealthConfig:
    """Check settings given as nested dictionaries; raise SettingError naming the setting."""
    unknown = sorted(set(content) - {"defaults", "types"})
    if unknown:
        raise SettingError(f"{place}: there is no table [{unknown[0]}]; write [defaults] and [types.NAME].")
    defaults = _table(content.get("defaults", {}), f"{place}: defaults")
    by_type = {ANY_TYPE: _settings(defaults, f"{place}: defaults")}
    for name, differing in _table(content.get("types", {}), f"{place}: types").items():
        own = f"{place}: types.{name}"
        if name == ANY_TYPE:
            raise SettingError(f"{own}: what holds for every other type is written in [defaults].")
        by_type[name] = _settings(_replaced(defaults, _table(differing, own)), own)
    return HealthConfig(by_type)


def _table(content: object, place: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise SettingError(f"{place} is {content!r}, where a table of settings belongs.")
    return content


def _replaced(defaults: dict[str, Any], differing: dict[str, Any]) -> dict[str, Any]:
    """Return ``defaults`` with what differs, inside their tables too."""
    return defaults | {
        name: defaults[name] | value if isinstance(value, dict) and isinstance(defaults.get(name), dict) else value
        for name, value in differing.items()
    }


def _settings(content: dict[str, Any], place: str) -> HealthSettings:
    try:
        settings = HealthSettings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingError(f"{place}.{where}: {first['msg']}.") from error
    settings.require_order(place)
    return settings


@dataclass(frozen=True, kw_only=True)
class EngagementRecord:
    """What the formula needs of an engagement."""

    occurred_at: datetime


@dataclass(frozen=True, kw_only=True)
class StatusChange:
    """An entry of a commitment's history; without ``valid_from`` the status always was so."""

    status: str
    valid_from: datetime | None


@dataclass(frozen=True, kw_only=True)
class CommitmentRecord:
    """What the formula needs of a commitment."""

    status: str
    due_date: date | None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    cancelled_at: datetime | None = None
    history: tuple[StatusChange, ...] = ()
    """In the order of learning; without it the commitment's own dates tell its past."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """Everything that is computed for one dossier, under the names of the tables' columns."""

    total_engagements_365d: int
    recent_engagements_90d: int
    latest_engagement_date: datetime | None
    engagement_frequency_score: Decimal
    total_commitments: int
    active_commitments: int
    overdue_commitments: int
    fulfilled_commitments: int
    upcoming_commitments: int
    fulfillment_rate: int
    recency: int
    overall_score: int | None
    band: str
    insufficient_reason: str | None


def round_half_away(value: Decimal, places: int = 0) -> Decimal:
    """Round exact decimals; 59.5 becomes 60. ROUND_HALF_UP in `decimal` is half away from zero."""
    return value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def health_as_of(
    engagements: Iterable[EngagementRecord],
    commitments: Iterable[CommitmentRecord],
    *,
    as_of: datetime,
    timezone: ZoneInfo,
    settings: HealthSettings,
) -> Health:
    """Return the statistics and the score of one dossier as of a moment."""
    # Python compares and subtracts moments of one and the same zone by the clock on the wall, not by time elapsed.
    as_of = as_of.astimezone(UTC)
    engaged = (record.occurred_at.astimezone(UTC) for record in engagements)
    occurred = [moment for moment in engaged if moment <= as_of]
    yearly = sum(moment >= as_of - 365 * DAY for moment in occurred)
    recent = sum(moment >= as_of - 90 * DAY for moment in occurred)
    latest = max(occurred, default=None)
    frequency = min(Decimal(100), round_half_away(Decimal(100 * yearly) / settings.yearly_target, 2))

    today = as_of.astimezone(timezone).date()
    existing = [record for record in commitments if record.created_at is None or record.created_at <= as_of]
    statuses = [(record, status_as_of(record, as_of)) for record in existing]
    still_open = [(record, status) for record, status in statuses if status not in ENDED]
    total = sum(status != "cancelled" for _, status in statuses)
    fulfilled = sum(status == "completed" for _, status in statuses)
    rate = int(round_half_away(Decimal(100 * fulfilled) / total)) if total else 100

    recency = _recency(latest, as_of, settings)
    reason = _insufficient(yearly, total, settings)
    overall = None
    if reason is None:
        weights = settings.weights
        overall = int(
            round_half_away(weights.engagement * frequency + weights.commitment * rate + weights.recency * recency)
        )
    return Health(
        total_engagements_365d=yearly,
        recent_engagements_90d=recent,
        latest_engagement_date=latest,
        engagement_frequency_score=frequency,
        total_commitments=total,
        active_commitments=sum(status != "overdue" for _, status in still_open),
        overdue_commitments=sum(record.due_date is not None and record.due_date < today for record, _ in still_open),
        fulfilled_commitments=fulfilled,
        upcoming_commitments=sum(
            record.due_date is not None and today <= record.due_date <= today + timedelta(days=30)
            for record, _ in still_open
        ),
        fulfillment_rate=rate,
        recency=recency,
        overall_score=overall,
        band=_band(overall, settings),
        insufficient_reason=reason,
    )


def status_as_of(record: CommitmentRecord, as_of: datetime) -> str:
    """Return the status that a commitment had at a moment after it was made; a later entry outdoes an earlier one."""
    if record.history:
        known = [c.status for c in record.history if c.valid_from is None or c.valid_from <= as_of]
        return known[-1] if known else "pending"
    ended = {"completed": record.completed_at, "cancelled": record.cancelled_at}.get(record.status)
    return "pending" if ended is not None and ended > as_of else record.status


def _recency(latest: datetime | None, as_of: datetime, settings: HealthSettings) -> int:
    points, days = settings.recency_points, settings.recency_days
    if latest is None:
        return points.silent
    elapsed = (as_of - latest) // DAY
    if elapsed <= days.fresh:
        return points.fresh
    if elapsed <= days.recent:
        return points.recent
    if elapsed <= days.distant:
        return points.distant
    return points.silent


def _insufficient(yearly: int, total: int, settings: HealthSettings) -> str | None:
    missing = []
    if yearly < settings.min_engagements:
        unit = "engagement" if settings.min_engagements == 1 else "engagements"
        missing.append(f"needs {settings.min_engagements} {unit} in 365 days, found {yearly}")
    if total < settings.min_commitments:
        unit = "commitment" if settings.min_commitments == 1 else "commitments"
        missing.append(f"needs {settings.min_commitments} {unit}, found {total}")
    return "; ".join(missing) or None


def _band(overall: int | None, settings: HealthSettings) -> str:
    if overall is None:
        return "insufficient_data"
    if overall >= settings.bands.excellent:
        return "excellent"
    if overall >= settings.bands.good:
        return "good"
    return "fair" if overall >= settings.bands.fair else "poor"
