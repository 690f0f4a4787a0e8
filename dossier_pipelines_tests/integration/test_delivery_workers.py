"""A delivery of thousands is shared by several processes; whoever sends it, each message is sent once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dossier_pipelines.notifications.configured import WEBHOOK_CONNECTIONS
from dossier_pipelines.notifications.workers import deliver_together
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import Settings
from dossier_pipelines.shared.failures import UserError
from dossier_pipelines_tests.outbox import SECRET, Answer, Receiver, person, receiver, rows, tell
from dossier_pipelines_tests.processes import wait_until


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A receiver that the settings of this process, and of those that it starts, lead to."""
    monkeypatch.setenv("DOSSIER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DOSSIER_WEBHOOK_SECRET", SECRET)
    with receiver() as server:
        monkeypatch.setenv("DOSSIER_WEBHOOK_URL", server.url)
        yield server


def configured(server: Receiver, tmp_path: Path, **fields: Any) -> Settings:
    return Settings(data_directory=tmp_path, webhook_url=server.url, webhook_secret=SECRET, **fields)


def test_two_processes_share_what_is_due_and_each_message_is_sent_once(
    database: Database, server: Receiver, tmp_path: Path
) -> None:
    told = [tell(database, person(database)) for _ in range(10 * WEBHOOK_CONNECTIONS)]
    # The first claims of one process leave some. It never has so many connections: nobody is answered before the other
    # process is there.
    server.otherwise = Answer(
        wait=lambda: wait_until(lambda: len(server.posts) > WEBHOOK_CONNECTIONS, "posts of a second process")
    )
    result = deliver_together(database, configured(server, tmp_path, delivery_processes=2), many=len(told))
    assert sorted(post.document["data"]["notification_id"] for post in server.posts) == sorted(told)
    assert result.outcomes == {("webhook", "sent"): len(told), ("email", "sent"): len(told)}
    assert [row.status for row in rows(database, "SELECT DISTINCT status FROM notifications.deliveries")] == ["sent"]


@pytest.mark.parametrize("fields", [{"delivery_processes": 2}, {"delivery_processes": 8, "webhooks_per_run": 2}])
def test_few_messages_and_limited_ones_start_no_process(
    database: Database, server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, int]
) -> None:
    for _ in range(3):
        tell(database, person(database))
    # A process that was started could not do anything but fail.
    monkeypatch.setenv("DOSSIER_DELIVERY_PROCESSES", "none")
    many = 1 if "webhooks_per_run" in fields else 7
    result = deliver_together(database, configured(server, tmp_path, **fields), many=many)
    assert result.outcomes["webhook", "sent"] == fields.get("webhooks_per_run", 3)


def test_a_process_that_fails_is_told_and_the_others_deliver_everything(
    database: Database, server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [tell(database, person(database)) for _ in range(3)]
    monkeypatch.setenv("DOSSIER_DELIVERY_PROCESSES", "none")
    with pytest.raises(UserError, match="One of 3 delivery processes ended with code 1"):
        deliver_together(database, configured(server, tmp_path, delivery_processes=3), many=1)
    assert sorted(post.document["data"]["notification_id"] for post in server.posts) == sorted(told)
