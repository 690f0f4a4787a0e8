"""The lease of a job: the hard guarantee that nothing is done twice at once, on any number of deployments.

A lease is a row of ``platform.job_leases``: job, holder, fencing number, expiry. It is taken atomically, renewed while
its holder works, and let go by its holder only. Three things make it safe and quick:

- every transaction that writes under it asks for it first (`Lease.require`): an older fencing number is refused, and
  nobody can take the lease while that transaction lasts;
- the holder's own database session keeps an advisory lock: when its process dies, the server lets go of it at once,
  and the next comer need not wait for the expiry;
- a holder that lives and hangs loses the lease when it expires.

The session that keeps the lock must be a direct one, not a transaction-pooled one: behind such a pooler a killed
holder blocks its job until the expiry.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dossier_pipelines.shared.database import Database, execute
from dossier_pipelines.shared.failures import LeaseHeldError, LeaseLostError
from dossier_pipelines.shared.tables import ALL_TENANTS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PACKAGE: Final = "dossier_pipelines.shared"
# How often somebody who waits for a lease looks again.
POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class JobLock:
    """What a job calls its lock, and after how many seconds a run of it counts as stuck."""

    name: str
    seconds: int

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a job under this lock: its runs queue for each other, and Dagster ends a stuck one."""
        return {"lock": self.name, "dagster/max_runtime": str(self.seconds)}

    def lease(self, database: Database, *, holder: str, patience_seconds: float = 0.0) -> AbstractContextManager[Lease]:
        """Hold the lease of the job for as long as the lock lasts; see `job_lease`."""
        return job_lease(database, self.name, holder=holder, seconds=self.seconds, patience_seconds=patience_seconds)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A lease that is held: what a writing transaction shows."""

    job: str
    holder: str
    fencing_number: int
    seconds: float
    tenant_id: str = ALL_TENANTS

    @property
    def key(self) -> dict[str, Any]:
        """The parameters that name it."""
        return {"tenant_id": self.tenant_id, "job": self.job, "fencing_number": self.fencing_number}

    def require(self, connection: Connection) -> None:
        """Keep the lease for as long as the transaction of ``connection`` lasts; raise LeaseLostError if it is lost."""
        if execute(connection, PACKAGE, "lease_require", self.key).one_or_none() is None:
            raise LeaseLostError(
                f"This run lost the lease of {self.job}: it took longer than {self.seconds:g} s without a sign of "
                "life, and another run took over. Nothing was written; that run does the work."
            )


def lock_key(tenant_id: str, job: str, fencing_number: int) -> str:
    """Return the name of the advisory lock that a holder's session keeps."""
    return f"lease:{tenant_id}:{job}:{fencing_number}"


@contextmanager
def job_lease(
    database: Database,
    job: str,
    *,
    holder: str,
    seconds: float,
    patience_seconds: float = 0.0,
    tenant_id: str = ALL_TENANTS,
) -> Iterator[Lease]:
    """Hold the lease of ``job``; raise LeaseHeldError when another run holds it and goes on holding it.

    ``holder`` is the run's id, ``seconds`` the time after which a silent holder loses it, ``patience_seconds`` how long
    to wait for it.
    """
    deadline = time.monotonic() + patience_seconds
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
        while True:
            try:
                lease = _take(session, job, holder=holder, seconds=seconds, tenant_id=tenant_id)
                break
            except LeaseHeldError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_SECONDS)
        keeper = _Keeper(database, session, lease)
        keeper.start()
        try:
            yield lease
        finally:
            keeper.stop()


def _take(session: Connection, job: str, *, holder: str, seconds: float, tenant_id: str) -> Lease:
    key = {"tenant_id": tenant_id, "job": job}
    execute(session, PACKAGE, "lease_known", key)
    session.exec_driver_sql("BEGIN")
    try:
        _require_free(session, key)
        taken = execute(session, PACKAGE, "lease_take", {**key, "holder": holder, "seconds": seconds}).one()
        _lock(session, lock_key(tenant_id, job, taken.fencing_number))
        session.exec_driver_sql("COMMIT")
    except BaseException:
        if not session.invalidated:
            session.exec_driver_sql("ROLLBACK")
        raise
    return Lease(job=job, holder=holder, fencing_number=taken.fencing_number, seconds=seconds, tenant_id=tenant_id)


def _require_free(session: Connection, key: dict[str, str]) -> None:
    job = key["job"]
    row = execute(session, PACKAGE, "lease_read", key).one_or_none()
    if row is not None and (row.free or not _lives(session, lock_key(key["tenant_id"], job, row.fencing_number))):
        return
    held = execute(session, PACKAGE, "lease_shown", key).one()
    if held.holder is None:
        # Somebody takes it at this moment.
        raise LeaseHeldError(f"{job} is being done by another run right now; this one did nothing.")
    raise LeaseHeldError(_held(job, held.holder, held.acquired_at, held.expires_at))


def _held(job: str, holder: str, since: datetime, until: datetime) -> str:
    return (
        f"{job} is held by run {holder} since {since:%Y-%m-%d %H:%M:%S %Z}, until {until:%H:%M:%S %Z} unless it goes "
        "on; this run did nothing. Wait for that run, or end it in the UI."
    )


def _lock(session: Connection, name: str) -> None:
    session.execute(sa.text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})


def _lives(session: Connection, name: str) -> bool:
    """Whether the session of a holder keeps its lock."""
    got = session.execute(sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), {"name": name}).scalar()
    if got:
        session.execute(sa.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})
    return not got


class _Keeper:
    """Renews a lease three times in its life, and lets it go at the end. It outlives the loss of its session."""

    def __init__(self, database: Database, session: Connection, lease: Lease) -> None:
        self._database = database
        self._session = session
        self._lease = lease
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {lease.job}", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing and release; a lease that cannot be released dies with its session, or expires."""
        self._done.set()
        self._thread.join()
        try:
            execute(self._session, PACKAGE, "lease_release", self._lease.key)
            self._unlock(self._session)
        except DBAPIError:
            self._release_anew()

    def _release_anew(self) -> None:
        self._session.invalidate()
        try:
            with self._database.transaction() as connection:
                execute(connection, PACKAGE, "lease_release", self._lease.key)
        except DBAPIError:
            return

    def _renew(self) -> None:
        while not self._done.wait(self._lease.seconds / 3):
            try:
                with self._database.transaction() as connection:
                    execute(connection, PACKAGE, "lease_renew", {**self._lease.key, "seconds": self._lease.seconds})
            except DBAPIError:
                # The next one may find the server back; if none does, the lease expires and require() says so.
                continue

    def _unlock(self, session: Connection) -> None:
        name = lock_key(self._lease.tenant_id, self._lease.job, self._lease.fencing_number)
        session.execute(sa.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})
