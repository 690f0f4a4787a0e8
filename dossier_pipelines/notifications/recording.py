"""Planning: how recorded notifications will reach their people. Called in the transaction that records them.

A desk writes rows of ``notifications.notifications`` and calls `plan_deliveries`. Rows that somebody wrote without it
are planned by the next delivery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dossier_pipelines.shared.database import execute, statement
from dossier_pipelines.shared.environment import Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PACKAGE: Final = "dossier_pipelines.notifications"


@dataclass(frozen=True, kw_only=True)
class DeliveryPolicy:
    """By which channels people are told, and how often a day one by one."""

    channels: tuple[str, ...] = ("in_app", "email")
    """Those of a notification that names none. Everything recorded is in the inbox: in_app is always among them."""
    on_request: tuple[str, ...] = ()
    """Those that only a notification takes that names them (column ``channels``)."""
    daily_number: int = Settings.daily_notifications

    @property
    def there(self) -> tuple[str, ...]:
        """Every channel that a notification can take here."""
        return tuple(dict.fromkeys(("in_app", *self.channels, *self.on_request)))


DEFAULT_POLICY: Final = DeliveryPolicy()


@dataclass(frozen=True, kw_only=True)
class Planned:
    """How many notifications were planned, how many of them go into digests, and the deliveries that will be sent."""

    planned: int
    in_digests: int
    deliveries: int


def delivery_policy(settings: Settings) -> DeliveryPolicy:
    """Return the policy that the settings ask for."""
    return DeliveryPolicy(
        channels=settings.channels,
        on_request=settings.channels_on_request,
        daily_number=settings.daily_notifications,
    )


def plan_deliveries(connection: Connection, policy: DeliveryPolicy, *, run_id: str | None = None) -> Planned:
    """Plan every notification that is not planned yet, those of this transaction among them.

    A notification that names its channels goes by these. Mail stands in for one that is not configured here, or does
    not reach the person (WhatsApp without a telephone number, or not enabled), so that no message is lost for it;
    ``notifications.delivery_explained`` says so.
    """
    connection.exec_driver_sql(statement(PACKAGE, "planning").text)
    if not execute(connection, PACKAGE, "take_unplanned", {"channels": list(policy.channels)}).rowcount:
        connection.exec_driver_sql("DROP TABLE planning")
        return Planned(planned=0, in_digests=0, deliveries=0)
    execute(connection, PACKAGE, "leave_decided")
    connection.exec_driver_sql("ANALYZE planning (tenant_id, user_id, day)")
    number = {"daily_number": policy.daily_number}
    execute(connection, PACKAGE, "count_days", number)
    row = execute(
        connection, PACKAGE, "plan_deliveries", {**number, "there": list(policy.there), "run_id": run_id}
    ).one()
    # The caller's transaction may go on, and plan again.
    connection.exec_driver_sql("DROP TABLE planning")
    return Planned(planned=row.planned, in_digests=row.in_digests, deliveries=row.deliveries)
