"""Every setting, read from the environment once, by name, with its default.

Other modules take ``Settings``, never ``os.environ``. Nothing is read at import: definitions load without any
variable set, and a wrong value fails by its name when it is first needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from dossier_pipelines.shared.clock import FIRST_YEAR, LAST_YEAR, zone
from dossier_pipelines.shared.failures import SettingError

DEFAULT_TENANT: Final = "default"
DEFAULT_TIMEZONE: Final = "Asia/Riyadh"
DEFAULT_DATA_DIRECTORY: Final = ".dossier"
# The newest of November 2026; each works for two years at least
# (developers.facebook.com/docs/graph-api/changelog/versions).
DEFAULT_WHATSAPP_URL: Final = "https://graph.facebook.com/v26.0"
# A secret travels in the clear to this machine only.
SECRET_URL: Final = re.compile(r"https://[^\s/]|http://(127\.0\.0\.1|localhost|\[::1\])([:/]|$)")
# The ports of RFC 8314 and RFC 6409.
SMTP_PORTS: Final = {"starttls": 587, "implicit": 465, "none": 25}


@dataclass(frozen=True, kw_only=True)
class SmtpSettings:
    """A mail server and how to talk to it."""

    host: str
    port: int
    encryption: str
    """implicit (TLS from the first byte), starttls, or none."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""


@dataclass(frozen=True, kw_only=True)
class WhatsAppSettings:
    """A business number of the WhatsApp Cloud API, and the approved templates that it sends."""

    url: str
    phone_number_id: str
    token: str = field(repr=False)
    templates: tuple[tuple[str, str], ...]
    """Kind of notification to name of the template."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one process. Secrets are named here, and shown nowhere."""

    database_url: str | None = field(default=None, repr=False)
    """A PostgreSQL server of yours; None means the embedded one."""
    data_directory: Path = Path(DEFAULT_DATA_DIRECTORY)
    """Where the embedded database and Dagster's files live."""
    source: str | None = field(default=None, repr=False)
    """A folder, an SQLAlchemy URL or a REST base URL; None means the built-in sample."""
    mapping: Path | None = None
    """A mapping file, TOML or YAML, that translates the source's names."""
    source_api_key: str | None = field(default=None, repr=False)
    """The key that a REST source asks for."""
    litigation_source: str | None = field(default=None, repr=False)
    """As source, of the litigation desk; None means its built-in sample, or nothing where source is set."""
    litigation_mapping: Path | None = None
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
    scheduled_jobs: bool = True
    """Whether schedules and sensors start by themselves."""
    load_interval_minutes: int = 60
    """How often a source of yours is loaded; the built-in sample, which never changes, is not."""
    refresh_interval_minutes: int = 15
    overdue_check_hour: int = 2
    overdue_grace_minutes: int = 15
    """A task counts as overdue when its due date has passed by more than this."""
    daily_notifications: int = 10
    """What one person gets in a day one by one; the rest goes into one digest."""
    operations_recipients: tuple[str, ...] = ()
    """Mail addresses that hear of jobs that fail."""
    smtp: SmtpSettings | None = None
    """The mail server; None means that mails are files in data_directory/mailbox."""
    mail_from: str = "Dossier Pipelines <dossier-pipelines@localhost>"
    webhook_url: str | None = field(default=None, repr=False)
    """Where notifications are posted to, too; None means nowhere."""
    webhook_secret: str | None = field(default=None, repr=False)
    """The signing secret of the Standard Webhooks convention, whsec_..."""
    whatsapp: WhatsAppSettings | None = None
    """The WhatsApp number that sends; None means that mail stands in for it."""
    app_url: str | None = None
    """Where the links in messages lead; None means that there are none."""
    mails_per_run: int | None = None
    whatsapps_per_run: int | None = None
    webhooks_per_run: int | None = None
    delivery_processes: int = 2
    """How many processes share a delivery of thousands."""
    rule_executions_per_run: int = 1000
    """What one automation rule does in a run; the rest waits for the next."""
    rule_attempts: int = 5
    """How often an automation rule tries to answer an event before it gives up."""
    history_start: date = date(2002, 1, 1)
    """The first day of which there can be a snapshot; by default that of the built-in sample."""
    history_days: int | None = None
    """Snapshots of earlier days are removed; None keeps all."""

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that a notification takes unless it names others."""
        return ("in_app", "email", "webhook") if self.webhook_url else ("in_app", "email")

    @property
    def channels_on_request(self) -> tuple[str, ...]:
        """The channels that only a notification takes that names them."""
        return ("whatsapp",) if self.whatsapp else ()


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "").strip()
    return Path(value).expanduser() if value else None


def _flag(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    value = environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in {"0", "false", "no", "off"}:
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


def _number(environ: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    value = environ.get(name, "").strip()
    if not value:
        return default
    if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
        raise SettingError(f"{name} is {value!r}; write a whole number from {least} to {most}, such as {default}.")
    return int(value)


def _day(environ: Mapping[str, str], name: str, default: date) -> date:
    value = environ.get(name, "").strip()
    if not value:
        return default
    try:
        day = date.fromisoformat(value)
    except ValueError as error:
        raise SettingError(f"{name} is {value!r}; write a day such as {default}.") from error
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise SettingError(f"{name} is {value!r}; the year must lie between {FIRST_YEAR} and {LAST_YEAR}.")
    return day


def _limit(environ: Mapping[str, str], name: str) -> int | None:
    return _number(environ, name, 0, least=0, most=1_000_000) or None


def _interval(environ: Mapping[str, str], name: str, default: int) -> int:
    minutes = _number(environ, name, default, least=1, most=720)
    # Cron counts within the hour, and within the day.
    if (60 % minutes if minutes < 60 else minutes % 60 or 24 % (minutes // 60)) != 0:
        raise SettingError(f"{name} is {minutes}; write a divisor of 60, or whole hours that divide the day.")
    return minutes


def _addresses(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    addresses = tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())
    for address in addresses:
        if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", address):
            raise SettingError(f"{name} holds {address!r}, which is no mail address; separate addresses by commas.")
    return addresses


def _smtp(environ: Mapping[str, str]) -> SmtpSettings | None:
    host = environ.get("DOSSIER_SMTP_HOST", "").strip()
    if not host:
        return None
    encryption = environ.get("DOSSIER_SMTP_ENCRYPTION", "").strip().lower() or "starttls"
    if encryption not in SMTP_PORTS:
        raise SettingError(f"DOSSIER_SMTP_ENCRYPTION is {encryption!r}; write one of {', '.join(SMTP_PORTS)}.")
    username = environ.get("DOSSIER_SMTP_USERNAME", "").strip() or None
    if username and encryption == "none":
        raise SettingError(
            "DOSSIER_SMTP_USERNAME is set and DOSSIER_SMTP_ENCRYPTION is none: the password would travel in the clear. "
            "Use starttls or implicit."
        )
    return SmtpSettings(
        host=host,
        port=_number(environ, "DOSSIER_SMTP_PORT", SMTP_PORTS[encryption], least=1, most=65535),
        encryption=encryption,
        username=username,
        password=environ.get("DOSSIER_SMTP_PASSWORD") or None,
        ca_file=_path(environ, "DOSSIER_SMTP_CA_FILE"),
    )


def _webhook(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    url = environ.get("DOSSIER_WEBHOOK_URL", "").strip() or None
    secret = environ.get("DOSSIER_WEBHOOK_SECRET", "").strip() or None
    if url is None:
        return None, None
    if not url.startswith(("https://", "http://")):
        raise SettingError("DOSSIER_WEBHOOK_URL must begin with https:// (or http://).")
    if secret is None:
        raise SettingError("DOSSIER_WEBHOOK_URL is set without DOSSIER_WEBHOOK_SECRET: receivers need the signature.")
    return url, secret


def _app_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get("DOSSIER_APP_URL", "").strip().rstrip("/")
    if url and not re.fullmatch(r"https?://[^\s/?#\"'<>][^\s?#\"'<>]*", url):
        raise SettingError(
            f"DOSSIER_APP_URL is {url!r}; write where the application is, such as https://desk.example.org."
        )
    return url or None


def _whatsapp(environ: Mapping[str, str]) -> WhatsAppSettings | None:
    number = environ.get("DOSSIER_WHATSAPP_PHONE_NUMBER_ID", "").strip()
    if not number:
        return None
    if not (number.isascii() and number.isdecimal()):
        raise SettingError(
            f"DOSSIER_WHATSAPP_PHONE_NUMBER_ID is {number!r}; write the number's id, which WhatsApp Manager shows: "
            "digits only."
        )
    token = environ.get("DOSSIER_WHATSAPP_TOKEN", "").strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise SettingError(
            "DOSSIER_WHATSAPP_PHONE_NUMBER_ID is set without DOSSIER_WHATSAPP_TOKEN, or that is no token: set the "
            "access token of a system user."
        )
    url = environ.get("DOSSIER_WHATSAPP_URL", "").strip().rstrip("/") or DEFAULT_WHATSAPP_URL
    if not SECRET_URL.match(url):
        raise SettingError(f"DOSSIER_WHATSAPP_URL is {url!r}; write one with https://, such as {DEFAULT_WHATSAPP_URL}.")
    return WhatsAppSettings(url=url, phone_number_id=number, token=token, templates=_templates(environ))


def _templates(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    name = "DOSSIER_WHATSAPP_TEMPLATES"
    pairs = [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
    found = [re.fullmatch(r"([a-z_]+)\s*=\s*([a-z0-9_]+)", pair) for pair in pairs]
    templates = [(match[1], match[2]) for match in found if match]
    if not templates or len(dict(templates)) < len(pairs):
        raise SettingError(
            f"{name} is {environ.get(name, '')!r}; write kind=template for each kind of notification that goes by "
            "WhatsApp, separated by commas, such as hearing_reminder=hearing_reminder_v1."
        )
    return tuple(templates)


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; raise SettingError naming the variable and the legal values."""
    environ = os.environ if environ is None else environ
    tenant_id = environ.get("DOSSIER_TENANT", "").strip() or DEFAULT_TENANT
    if not (tenant_id.replace("_", "").replace("-", "").isalnum() and tenant_id.isascii() and len(tenant_id) <= 40):
        raise SettingError(f"DOSSIER_TENANT is {tenant_id!r}; use at most 40 letters, digits, hyphens and underscores.")
    timezone = environ.get("DOSSIER_TIMEZONE", "").strip() or DEFAULT_TIMEZONE
    zone(timezone, setting="DOSSIER_TIMEZONE")
    webhook_url, webhook_secret = _webhook(environ)
    return Settings(
        database_url=environ.get("DOSSIER_DATABASE_URL", "").strip() or None,
        data_directory=_path(environ, "DOSSIER_DATA_DIR") or Path(DEFAULT_DATA_DIRECTORY),
        source=environ.get("DOSSIER_SOURCE", "").strip() or None,
        mapping=_path(environ, "DOSSIER_MAPPING"),
        source_api_key=environ.get("DOSSIER_SOURCE_API_KEY") or None,
        litigation_source=environ.get("DOSSIER_LITIGATION_SOURCE", "").strip() or None,
        litigation_mapping=_path(environ, "DOSSIER_LITIGATION_MAPPING"),
        tenant_id=tenant_id,
        timezone=timezone,
        health_config=_path(environ, "DOSSIER_HEALTH_CONFIG"),
        max_rejected_share=_share(environ, "DOSSIER_MAX_REJECTED_SHARE", Settings.max_rejected_share),
        full_refresh=_flag(environ, "DOSSIER_FULL_REFRESH"),
        max_removed_share=_share(environ, "DOSSIER_MAX_REMOVED_SHARE", Settings.max_removed_share),
        allow_empty=_flag(environ, "DOSSIER_ALLOW_EMPTY"),
        scheduled_jobs=_flag(environ, "ENABLE_SCHEDULED_JOBS", default=True),
        load_interval_minutes=_interval(environ, "DOSSIER_LOAD_INTERVAL_MINUTES", Settings.load_interval_minutes),
        refresh_interval_minutes=_interval(
            environ, "HEALTH_REFRESH_INTERVAL_MINUTES", Settings.refresh_interval_minutes
        ),
        overdue_check_hour=_number(environ, "OVERDUE_CHECK_HOUR", Settings.overdue_check_hour, least=0, most=23),
        overdue_grace_minutes=_number(
            environ, "DOSSIER_OVERDUE_GRACE_MINUTES", Settings.overdue_grace_minutes, least=0, most=1440
        ),
        daily_notifications=_number(
            environ, "DOSSIER_DAILY_NOTIFICATIONS", Settings.daily_notifications, least=1, most=1000
        ),
        operations_recipients=_addresses(environ, "DOSSIER_OPERATIONS_RECIPIENTS"),
        smtp=_smtp(environ),
        mail_from=environ.get("DOSSIER_MAIL_FROM", "").strip() or Settings.mail_from,
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
        whatsapp=_whatsapp(environ),
        app_url=_app_url(environ),
        mails_per_run=_limit(environ, "DOSSIER_MAILS_PER_RUN"),
        whatsapps_per_run=_limit(environ, "DOSSIER_WHATSAPPS_PER_RUN"),
        webhooks_per_run=_limit(environ, "DOSSIER_WEBHOOKS_PER_RUN"),
        delivery_processes=_number(
            environ, "DOSSIER_DELIVERY_PROCESSES", Settings.delivery_processes, least=1, most=32
        ),
        rule_executions_per_run=_number(
            environ, "DOSSIER_RULE_EXECUTIONS_PER_RUN", Settings.rule_executions_per_run, least=1, most=1_000_000
        ),
        rule_attempts=_number(environ, "DOSSIER_RULE_ATTEMPTS", Settings.rule_attempts, least=1, most=100),
        history_start=_day(environ, "DOSSIER_HISTORY_START", Settings.history_start),
        history_days=_number(environ, "DOSSIER_HISTORY_DAYS", 0, least=31, most=36_500) or None,
    )
