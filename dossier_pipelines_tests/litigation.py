"""Records of the litigation desk for tests, written straight into the raw tables."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from dossier_pipelines.shared.database import Database

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
# A Tuesday, 12:00 in Riyadh.
NOON: Final = datetime(2025, 6, 10, 9, tzinfo=UTC)


class Desk:
    """A tenant of the desk; ids are numbered in the order of making."""

    def __init__(
        self,
        database: Database,
        tenant_id: str = "one",
        *,
        timezone: str = "Asia/Riyadh",
        clock_at: datetime | None = None,
    ) -> None:
        self.database = database
        self.tenant_id = tenant_id
        self._made = 0
        self._insert("tenants", name=tenant_id.title(), timezone=timezone)
        if clock_at is not None:
            self.set_clock(clock_at)

    def _run(self, sql: str, **values: Any) -> None:
        with self.database.transaction() as connection:
            connection.execute(sa.text(sql), values)

    def _insert(self, table: str, **values: Any) -> uuid.UUID:
        self._made += 1
        values = {"tenant_id": self.tenant_id, "id": uuid.UUID(int=self._made), **values}
        names = ", ".join(values)
        self._run(f"INSERT INTO raw.{table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})", **values)
        return uuid.UUID(int=self._made)

    def set_clock(self, at: datetime | None) -> None:
        self._run("UPDATE platform.tenants SET clock_at = :at WHERE tenant_id = :of", at=at, of=self.tenant_id)

    def user(self, **values: Any) -> uuid.UUID:
        return self._insert("users", **{"email": f"{self._made}@{self.tenant_id}.example", **values})

    def court(self, name: str = "High Court", city: str | None = "Mumbai") -> uuid.UUID:
        return self._insert("courts", name=name, city=city)

    def case(self, **values: Any) -> uuid.UUID:
        return self._insert("cases", **{"case_number": f"C-{self._made}", "created_at": NOON - 400 * DAY, **values})

    def task(self, case_id: uuid.UUID, **values: Any) -> uuid.UUID:
        defaults = {
            "title": "Reply to the notice",
            "status": "pending",
            "priority": "medium",
            "created_at": NOON - HOUR,
        }
        return self._insert("tasks", case_id=case_id, **{**defaults, **values})

    def hearing(self, case_id: uuid.UUID, at: datetime, **values: Any) -> uuid.UUID:
        return self._insert("hearings", case_id=case_id, hearing_date=at, **{"status": "scheduled", **values})

    def document(self, case_id: uuid.UUID, at: datetime) -> uuid.UUID:
        return self._insert("case_documents", case_id=case_id, uploaded_at=at)

    def hours(self, **hours: float) -> None:
        for priority, number in hours.items():
            self.policy(priority, number)

    def policy(self, priority: str, hours: float) -> uuid.UUID:
        return self._insert("sla_policies", priority=priority, hours=hours)

    def change(self, table: str, record: uuid.UUID, **values: Any) -> None:
        settings = ", ".join(f"{name} = :{name}" for name in values)
        self._run(
            f"UPDATE raw.{table} SET {settings} WHERE tenant_id = :tenant_id AND id = :id",
            tenant_id=self.tenant_id,
            id=record,
            **values,
        )

    def remove(self, table: str, record: uuid.UUID) -> None:
        self._run(f"DELETE FROM raw.{table} WHERE tenant_id = :of AND id = :id", of=self.tenant_id, id=record)
