"""By which channels: those that a notification names, mail where one does not reach, and in the reader's language."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from dossier_pipelines.notifications.channels.email import Email
from dossier_pipelines.notifications.channels.whatsapp import WhatsApp
from dossier_pipelines.notifications.delivery import DeliveryResult, Lane, RetryPolicy, deliver_due
from dossier_pipelines.notifications.recording import DeliveryPolicy, plan_deliveries
from dossier_pipelines.notifications.replaying import replay_dead
from dossier_pipelines.shared.database import Database
from dossier_pipelines.shared.environment import SmtpSettings, WhatsAppSettings
from dossier_pipelines_tests.integration.test_whatsapp import PHONE, TOKEN, error, taken
from dossier_pipelines_tests.outbox import (
    DEADLINES,
    HEARING,
    NOON,
    SENDER,
    MailServer,
    Receiver,
    delivery,
    digests,
    explained,
    mail_server,
    make_due,
    person,
    receiver,
    record,
    tell,
    tenant,
)
from dossier_pipelines_tests.records import MINIMAL, load, rows, scalar, write_files

EVERYTHING = DeliveryPolicy(channels=("in_app", "email", "webhook"), on_request=("whatsapp",), daily_number=3)
WITHOUT_WHATSAPP = DeliveryPolicy(channels=("in_app", "email", "webhook"), daily_number=3)
MAIL_ONLY = DeliveryPolicy(channels=("in_app", "email"), daily_number=3)


def planned(database: Database, identity: str) -> set[str]:
    """By which channels a notification goes."""
    found = rows(database, "SELECT channel FROM notifications.deliveries WHERE notification_id = :id", id=identity)
    return {row.channel for row in found}


def reader(database: Database, **fields: object) -> str:
    """Somebody who has enabled WhatsApp."""
    return person(database, **{"phone": PHONE, "whatsapp": True, **fields})  # type: ignore[arg-type]


# --- what a notification names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "channels", "expected"),
    [
        (EVERYTHING, None, {"in_app", "email", "webhook"}),
        (EVERYTHING, [], {"in_app"}),
        (EVERYTHING, ["in_app"], {"in_app"}),
        (EVERYTHING, ["email"], {"in_app", "email"}),
        (EVERYTHING, ["webhook"], {"in_app", "webhook"}),
        (EVERYTHING, ["whatsapp"], {"in_app", "whatsapp"}),
        (EVERYTHING, ["email", "whatsapp"], {"in_app", "email", "whatsapp"}),
        (EVERYTHING, ["whatsapp", "whatsapp", "in_app"], {"in_app", "whatsapp"}),
        # Mail stands in for what is not configured, or unheard of.
        (WITHOUT_WHATSAPP, ["whatsapp"], {"in_app", "email"}),
        (WITHOUT_WHATSAPP, ["webhook", "whatsapp"], {"in_app", "email", "webhook"}),
        (MAIL_ONLY, ["webhook"], {"in_app", "email"}),
        (EVERYTHING, ["pigeon"], {"in_app", "email"}),
        (EVERYTHING, [None], {"in_app", "email"}),
    ],
)
def test_a_notification_goes_by_the_channels_that_it_names(
    database: Database, policy: DeliveryPolicy, channels: Sequence[str | None] | None, expected: set[str]
) -> None:
    assert planned(database, tell(database, reader(database), policy=policy, channels=channels)) == expected


@pytest.mark.parametrize(("phone", "enabled"), [(PHONE, None), (PHONE, False), (None, True), ("", True), (None, None)])
def test_mail_stands_in_for_whatsapp_where_it_does_not_reach_the_person(
    database: Database, phone: str | None, enabled: bool | None
) -> None:
    user = person(database, phone=phone, whatsapp=enabled)
    assert planned(database, tell(database, user, policy=EVERYTHING, channels=["whatsapp"])) == {"in_app", "email"}
    both = tell(database, user, policy=EVERYTHING, channels=["whatsapp", "email"])
    assert planned(database, both) == {"in_app", "email"}


def test_nobody_without_an_address_is_mailed_in_place_of_whatsapp(database: Database) -> None:
    nameless = person(database, address=None)
    told = tell(database, nameless, policy=EVERYTHING, channels=["whatsapp"])
    assert planned(database, told) == {"in_app"}
    stranger = tell(database, str(uuid.uuid4()), policy=EVERYTHING, channels=["whatsapp"], address="a@dossier.example")
    assert planned(database, stranger) == {"in_app", "email"}


def test_what_is_for_the_inbox_alone_takes_no_place_in_the_day(database: Database) -> None:
    user = reader(database)
    with database.transaction() as connection:
        quiet = [record(connection, user, urgency=1, channels=[]) for _ in range(5)]
        loud = [record(connection, user, urgency=4, channels=["email"]) for _ in range(3)]
        assert plan_deliveries(connection, EVERYTHING).in_digests == 0
    assert digests(database) == {}
    assert [planned(database, identity) for identity in quiet] == [{"in_app"}] * 5
    assert [planned(database, identity) for identity in loud] == [{"in_app", "email"}] * 3
    assert scalar(database, "SELECT counted FROM notifications.daily_counts") == 3
    late = tell(database, user, policy=EVERYTHING, channels=[])
    assert delivery(database, late, "in_app").digest_id is None


def test_a_digest_goes_where_what_it_carries_goes_and_by_mail_for_whatsapp(database: Database) -> None:
    user = reader(database)
    with database.transaction() as connection:
        for _ in range(3):
            record(connection, user, urgency=1)
        record(connection, user, title="by whatsapp", channels=["whatsapp"])
        plan_deliveries(connection, EVERYTHING)
    ((digest, _),) = digests(database).items()
    assert planned(database, digest) == {"email"}
    tell(database, user, policy=EVERYTHING, title="by webhook", channels=["webhook"])
    tell(database, user, policy=EVERYTHING, title="by any")
    assert planned(database, digest) == {"email", "webhook"}
    with receiver() as server:
        server.deliver(database, policy=EVERYTHING)
        (post,) = [post for post in server.posts if post.document["type"] == "digest"]
    # What is not for the webhook is not in its digest; mail has everything.
    assert sorted(post.titles) == ["by any", "by webhook"]
    with mail_server() as server_of_mail:
        deliver(database, mails=server_of_mail)
        (sent,) = [mail.message for mail in server_of_mail.mails.taken if "more" in mail.message["subject"]]
    text = sent.get_body(("plain",)).get_content()
    assert all(f"- {title}" in text for title in ("by whatsapp", "by webhook", "by any"))


@pytest.mark.parametrize(
    ("policy", "fields", "channels", "channel", "explanation"),
    [
        (EVERYTHING, {}, [], "email", "not by this channel: it is for the inbox alone"),
        (EVERYTHING, {}, ["whatsapp"], "email", "not by this channel: the notification names others"),
        (EVERYTHING, {}, ["email"], "webhook", "not by this channel: the notification names others"),
        (WITHOUT_WHATSAPP, {}, ["whatsapp"], "whatsapp", "not by this channel: it was not configured when the "),
        (EVERYTHING, {"whatsapp": None}, ["whatsapp"], "whatsapp", "not by this channel: the person has not enabled"),
        (EVERYTHING, {"phone": None}, ["whatsapp"], "whatsapp", "not by this channel: the person has no telephone"),
        (EVERYTHING, {}, ["whatsapp"], "whatsapp", "waits until "),
    ],
)
def test_it_is_explained_why_a_channel_was_not_taken(
    database: Database,
    policy: DeliveryPolicy,
    fields: dict[str, object],
    channels: list[str],
    channel: str,
    explanation: str,
) -> None:
    told = tell(database, reader(database, **fields), policy=policy, channels=channels)
    assert explained(database, told, channel).startswith(explanation)


def test_who_wants_whatsapp_is_read_from_the_source(database: Database, tmp_path: Path) -> None:
    people = "id,name,phone,whatsapp\na,A,+966501234567,yes\nb,B,+966501234567,false\nc,C,,\n"
    load(database, write_files(tmp_path, {**MINIMAL, "users.csv": people}))
    found = rows(database, "SELECT name, whatsapp FROM raw.users ORDER BY name")
    assert [tuple(row) for row in found] == [("A", True), ("B", False), ("C", None)]


# --- delivered --------------------------------------------------------------------------------------------------


def deliver(
    database: Database,
    *,
    mails: MailServer | None = None,
    cloud: Receiver | None = None,
    retries: RetryPolicy | None = None,
) -> DeliveryResult:
    """Deliver what is due by mail and by WhatsApp."""
    lanes = {}
    if cloud is not None:
        settings = WhatsAppSettings(
            url=cloud.url.removesuffix("/hooks"),
            phone_number_id="1065",
            token=TOKEN,
            templates=(("hearing_reminder", "hearing_v1"),),
        )
        channel = WhatsApp(settings, timeout=30, connections=4)
        lanes["whatsapp"] = Lane(channel=channel, concurrency=4, mail_stands_in=True)
    if mails is not None:
        smtp = SmtpSettings(host="127.0.0.1", port=mails.port, encryption="none")
        lanes["email"] = Lane(
            channel=Email(smtp, sender=SENDER, timeout=30, app_url="https://desk.example"), concurrency=4
        )
    return deliver_due(database, lanes, EVERYTHING, retries=retries)


def remind(database: Database, user: str, *, channels: Sequence[str] = ("whatsapp",)) -> str:
    return tell(
        database, user, policy=EVERYTHING, kind="hearing_reminder", metadata=HEARING, channels=channels, at=NOON
    )


def test_a_reminder_goes_by_whatsapp_in_the_readers_language_and_zone(database: Database) -> None:
    tenant(database, "America/New_York")
    told = remind(database, reader(database, locale="ar-SA", timezone="Asia/Riyadh"))
    with receiver() as cloud:
        cloud.otherwise = taken()
        assert deliver(database, cloud=cloud).outcomes == {("whatsapp", "sent"): 1}
        (post,) = cloud.posts
    template = post.document["template"]
    assert post.document["to"] == PHONE
    assert template["language"] == {"code": "ar"}
    assert "10:30 ص" in template["components"][0]["parameters"][4]["text"]
    assert delivery(database, told, "whatsapp").provider_id == "wamid.HBgMOTY2"
    assert explained(database, told, "whatsapp").startswith("sent at 20")


@pytest.mark.parametrize(
    ("zone", "clock"),
    [
        (None, "3:30 AM (Eastern Daylight Time)"),
        ("Asia/Riyadh", "10:30 AM (Arabian"),
        ("Nowhere/Land", "3:30 AM (East"),
    ],
)
def test_whoever_has_no_zone_reads_the_tenants(database: Database, zone: str | None, clock: str) -> None:
    tenant(database, "America/New_York")
    remind(database, reader(database, timezone=zone), channels=["email"])
    with mail_server() as mails:
        deliver(database, mails=mails)
        (mail,) = mails.mails.taken
    assert mail.message["subject"] == "Hearing Reminder: 2024-0123 - GSTAT"
    assert f"Time: {clock}" in mail.message.get_body(("plain",)).get_content()


def test_deadlines_come_in_one_mail_with_links(database: Database) -> None:
    user = reader(database, locale="ar", timezone="Asia/Riyadh")
    tell(database, user, policy=EVERYTHING, kind="deadlines", metadata=DEADLINES, channels=["email"], at=NOON)
    with mail_server() as mails:
        deliver(database, mails=mails)
        (mail,) = mails.mails.taken
    assert mail.message["subject"] == "📋 مواعيدكم النهائية القادمة (خلال 24 ساعة)"
    html = mail.message.get_body(("html",)).get_content()
    assert '<html lang="ar" dir="rtl">' in html
    assert 'href="https://desk.example/deadlines"' in html


def test_whoever_whatsapp_does_not_reach_gets_a_mail_in_its_place_once(database: Database) -> None:
    told = remind(database, reader(database))
    with receiver() as cloud, mail_server() as mails:
        cloud.otherwise = error(131026)
        result = deliver(database, cloud=cloud)
        assert result.outcomes == {("whatsapp", "dead"): 1}
        dead, queued = delivery(database, told, "whatsapp"), delivery(database, told, "email")
        assert (dead.status, dead.attempts) == ("dead", 1)
        assert dead.last_error == "WhatsApp said 131026: the person cannot be reached by WhatsApp"
        assert (queued.status, queued.attempts, queued.day) == ("queued", 0, dead.day)
        assert queued.dedupe_key.endswith(":email")
        assert deliver(database, mails=mails, cloud=cloud).outcomes == {("email", "sent"): 1}
        # Given another chance, it falls back again; the mail is not repeated.
        assert replay_dead(database, channel="whatsapp") == 1
        deliver(database, mails=mails, cloud=cloud)
        assert len(mails.mails.taken) == 1
    assert len(cloud.posts) == 2
    assert delivery(database, told, "email").status == "sent"


def test_a_fallback_without_an_address_leaves_the_reason(database: Database) -> None:
    told = remind(database, reader(database, address=None))
    with receiver() as cloud:
        cloud.otherwise = error(131050)
        deliver(database, cloud=cloud)
    assert planned(database, told) == {"in_app", "whatsapp"}
    assert explained(database, told, "whatsapp").startswith("given up after 1 attempt: WhatsApp said 131050: ")
    assert explained(database, told, "email") == "no mail: the person has no mail address"


def test_a_mail_that_goes_anyway_is_not_doubled_by_a_fallback(database: Database) -> None:
    told = remind(database, reader(database), channels=["email", "whatsapp"])
    with receiver() as cloud, mail_server() as mails:
        cloud.otherwise = error(132015)
        deliver(database, mails=mails, cloud=cloud)
        deliver(database, mails=mails, cloud=cloud)
        assert len(mails.mails.taken) == 1
    assert delivery(database, told, "whatsapp").status == "dead"


def test_a_worker_that_lost_its_claim_queues_no_mail(database: Database) -> None:
    told = remind(database, reader(database))
    with receiver() as cloud:

        def another_takes_it() -> None:
            cloud.otherwise = taken()
            make_due(database)
            deliver(database, cloud=cloud)

        lost = error(131026)
        cloud.answers = [type(lost)(lost.status, lost.headers, lost.body, wait=another_takes_it)]
        deliver(database, cloud=cloud)
        assert len(cloud.posts) == 2
    assert delivery(database, told, "whatsapp").status == "sent"
    assert planned(database, told) == {"in_app", "whatsapp"}


def test_a_token_that_has_expired_costs_no_message(database: Database) -> None:
    told = remind(database, reader(database))
    with receiver() as cloud:
        cloud.answers = [error(190, 401)]
        cloud.otherwise = taken()
        assert deliver(database, cloud=cloud).outcomes == {("whatsapp", "failed"): 1}
        assert delivery(database, told, "whatsapp").last_error == (
            "WhatsApp said 190: the access token has expired: set DOSSIER_WHATSAPP_TOKEN anew"
        )
        make_due(database)
        assert deliver(database, cloud=cloud).outcomes == {("whatsapp", "sent"): 1}


def test_after_its_last_attempt_by_whatsapp_a_message_goes_by_mail(database: Database) -> None:
    told = remind(database, reader(database))
    twice = RetryPolicy(attempts=2)
    with receiver() as cloud, mail_server() as mails:
        cloud.otherwise = error(190, 401)
        assert deliver(database, cloud=cloud, retries=twice).outcomes == {("whatsapp", "failed"): 1}
        assert planned(database, told) == {"in_app", "whatsapp"}
        make_due(database)
        assert deliver(database, cloud=cloud, retries=twice).outcomes == {("whatsapp", "dead"): 1}
        assert deliver(database, mails=mails).outcomes == {("email", "sent"): 1}
    assert explained(database, told, "whatsapp").startswith("given up after 2 attempts: WhatsApp said 190: ")


def test_a_notification_that_cannot_be_written_is_given_up_and_stops_no_other(database: Database) -> None:
    user = reader(database)
    with database.transaction() as connection:
        broken = record(
            connection, user, kind="deadlines", metadata={"items": [{"title": "s3cret"}]}, channels=["email"]
        )
        fine = record(connection, user, kind="deadlines", metadata=DEADLINES, channels=["email"])
        plan_deliveries(connection, EVERYTHING)
    with mail_server() as mails:
        assert deliver(database, mails=mails).outcomes == {("email", "sent"): 1, ("email", "dead"): 1}
        assert len(mails.mails.taken) == 1
    assert delivery(database, fine, "email").status == "sent"
    assert delivery(database, broken, "email").last_error == (
        "no mail can be made of this notification: metadata.items.0.type is wrong (missing)"
    )
