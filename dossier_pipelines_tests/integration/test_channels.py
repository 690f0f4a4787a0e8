"""The channels against real receivers: mail by SMTP with TLS and login, mails as files, and signed posts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default as email_policy
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from dossier_pipelines.notifications.channels.channel import (
    Channel,
    DigestItem,
    OutgoingMessage,
    Refused,
    Sent,
    TryAgain,
    Verdict,
)
from dossier_pipelines.notifications.channels.email import Email
from dossier_pipelines.notifications.channels.mailbox import Mailbox
from dossier_pipelines.notifications.channels.webhook import Webhook
from dossier_pipelines.notifications.configured import configured_lanes
from dossier_pipelines.notifications.delivery import Pace
from dossier_pipelines.shared.environment import Settings, SmtpSettings, read_settings
from dossier_pipelines.shared.failures import SettingError
from dossier_pipelines_tests.outbox import (
    NOON,
    SECRET,
    SENDER,
    Answer,
    Logins,
    MailServer,
    Receiver,
    mail_server,
    outgoing,
    receiver,
    scripted_mail_server,
    server_context,
)
from dossier_pipelines_tests.processes import free_port

# What aiosmtpd says when a login is asked for after implicit TLS.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


def send(make: Callable[[], Channel], *messages: OutgoingMessage) -> list[Verdict]:
    """Send one after the other by one channel."""

    async def run() -> list[Verdict]:
        channel = make()
        try:
            return [await channel.send(message) for message in messages]
        finally:
            await channel.close()

    return asyncio.run(run())


# --- mail -------------------------------------------------------------------------------------------------------


def plain(port: int) -> SmtpSettings:
    return SmtpSettings(host="127.0.0.1", port=port, encryption="none")


def mail_by(settings: SmtpSettings) -> Callable[[], Email]:
    return lambda: Email(settings, sender=SENDER, timeout=30)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def tls_server(encryption: str, authority: trustme.CA, **options: Any) -> Any:
    context = server_context(authority)
    if encryption == "implicit":
        # aiosmtpd takes a login for protected after STARTTLS only.
        return mail_server(ssl_context=context, auth_require_tls=False, **options)
    return mail_server(tls_context=context, require_starttls=True, **options)


def settings_for(server: MailServer, encryption: str, trusted: Path | None, **login: str) -> SmtpSettings:
    return SmtpSettings(host="127.0.0.1", port=server.port, encryption=encryption, ca_file=trusted, **login)


def test_a_mail_has_a_text_and_an_html_part_and_goes_to_its_person_only() -> None:
    with mail_server() as server:
        (verdict,) = send(
            mail_by(plain(server.port)), outgoing(title="Frist läuft ab", message="Morgen: 3 < 4 & مرحبا")
        )
    assert verdict == Sent(provider_id="2.0.0 queued as 1")
    (taken,) = server.mails.taken
    assert (taken.sender, taken.recipients) == ("desk@dossier.example", ["person@dossier.example"])
    message = taken.message
    assert message["subject"] == "Frist läuft ab"
    assert message["from"] == SENDER
    assert message["to"] == "person@dossier.example"
    assert message["auto-submitted"] == "auto-generated"
    assert message["date"].datetime == NOON
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert "Morgen: 3 < 4 & مرحبا" in text.get_content()
    assert "Morgen: 3 &lt; 4 &amp; مرحبا" in html.get_content()


def test_a_second_attempt_sends_the_same_bytes_under_the_same_message_id() -> None:
    with mail_server() as server:
        send(mail_by(plain(server.port)), outgoing(attempt=1), outgoing(attempt=2), outgoing(key="another"))
    first, second, other = server.mails.taken
    assert first.content == second.content
    assert first.message["message-id"] == second.message["message-id"] != other.message["message-id"]
    assert first.message["message-id"].endswith("@dossier.example>")


def test_the_same_key_of_two_tenants_makes_two_message_ids() -> None:
    with mail_server() as server:
        send(mail_by(plain(server.port)), outgoing(tenant_id="one"), outgoing(tenant_id="two"))
    assert len({mail.message["message-id"] for mail in server.mails.taken}) == 2


@pytest.mark.parametrize("encryption", ["starttls", "implicit"])
def test_mail_goes_encrypted_to_a_server_whose_certificate_is_trusted(
    encryption: str, authority: trustme.CA, trusted: Path
) -> None:
    with tls_server(encryption, authority) as server:
        (verdict,) = send(mail_by(settings_for(server, encryption, trusted)), outgoing())
    assert isinstance(verdict, Sent)
    assert [mail.encrypted for mail in server.mails.taken] == [True]


@pytest.mark.parametrize("encryption", ["starttls", "implicit"])
def test_a_certificate_that_is_not_trusted_is_a_reason_to_try_again_that_names_it(
    encryption: str, authority: trustme.CA
) -> None:
    with tls_server(encryption, authority) as server:
        (verdict,) = send(mail_by(settings_for(server, encryption, None)), outgoing())
    assert verdict == TryAgain(reason="the mail server cannot be used: SSLCertVerificationError")
    assert server.mails.taken == []


@pytest.mark.parametrize("encryption", ["starttls", "implicit"])
def test_a_certificate_of_another_host_is_not_trusted(encryption: str, authority: trustme.CA, trusted: Path) -> None:
    context = server_context(authority, "another.example")
    options = {"ssl_context": context} if encryption == "implicit" else {"tls_context": context}
    with mail_server(**options) as server:
        (verdict,) = send(mail_by(settings_for(server, encryption, trusted)), outgoing())
    assert verdict == TryAgain(reason="the mail server cannot be used: SSLCertVerificationError")
    assert server.mails.taken == []


def test_nothing_is_sent_in_the_clear_to_a_server_without_starttls(trusted: Path) -> None:
    with mail_server() as server:
        (verdict,) = send(mail_by(settings_for(server, "starttls", trusted)), outgoing())
    assert isinstance(verdict, TryAgain)
    assert server.mails.taken == []


@pytest.mark.parametrize("encryption", ["starttls", "implicit"])
def test_a_server_that_asks_for_a_login_gets_it(encryption: str, authority: trustme.CA, trusted: Path) -> None:
    options = {"authenticator": Logins("desk", "r1ght"), "auth_required": True}
    with tls_server(encryption, authority, **options) as server:
        login = settings_for(server, encryption, trusted, username="desk", password="r1ght")
        (verdict,) = send(mail_by(login), outgoing())
    assert isinstance(verdict, Sent)
    assert [(mail.encrypted, mail.login) for mail in server.mails.taken] == [(True, b"desk")]


@pytest.mark.parametrize("encryption", ["starttls", "implicit"])
def test_a_wrong_password_kills_no_message_and_is_not_shown(
    encryption: str, authority: trustme.CA, trusted: Path
) -> None:
    options = {"authenticator": Logins("desk", "r1ght"), "auth_required": True}
    with tls_server(encryption, authority, **options) as server:
        login = settings_for(server, encryption, trusted, username="desk", password="wr0ng")
        (verdict,) = send(mail_by(login), outgoing())
        (without,) = send(mail_by(settings_for(server, encryption, trusted)), outgoing())
    assert verdict == TryAgain(reason="the mail server refused us (SMTP 535)")
    assert isinstance(without, TryAgain)
    assert server.mails.taken == []


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("550 5.1.1 no such person", Refused(reason="the server refused the recipient (SMTP 550)")),
        ("553 not allowed", Refused(reason="the server refused the recipient (SMTP 553)")),
        ("450 4.2.0 greylisted", TryAgain(reason="the server refused the recipient (SMTP 450)")),
        ("451 4.3.0 later", TryAgain(reason="the server refused the recipient (SMTP 451)")),
        ("452 mailbox full", TryAgain(reason="the server refused the recipient (SMTP 452)")),
        ("530 5.7.0 authenticate first", TryAgain(reason="the server refused the recipient (SMTP 530)")),
    ],
)
def test_what_a_server_says_of_a_recipient_decides_for_that_one_only(reply: str, verdict: Verdict) -> None:
    with mail_server() as server:
        server.mails.refused["gone@dossier.example"] = reply
        found = send(
            mail_by(plain(server.port)), outgoing(address="gone@dossier.example"), outgoing(), outgoing(key="other")
        )
    assert found[0] == verdict
    assert [type(other) for other in found[1:]] == [Sent, Sent]
    # By the same connection.
    assert len({mail.client for mail in server.mails.taken}) == 1


@pytest.mark.parametrize(
    ("step", "reply", "verdict"),
    [
        ("end", b"552 5.2.3 too large", Refused(reason="the server refused the mail (SMTP 552)")),
        ("end", b"554 5.7.1 looks like spam", Refused(reason="the server refused the mail (SMTP 554)")),
        ("end", b"451 4.3.0 later", TryAgain(reason="the server refused the mail (SMTP 451)")),
        ("DATA", b"451 4.3.0 later", TryAgain(reason="the server refused the mail (SMTP 451)")),
        ("DATA", b"421 4.3.2 going down", TryAgain(reason="the server refused the mail (SMTP 421)")),
        # What is said of the sender or of us as a whole would kill every message.
        ("MAIL", b"550 5.7.1 who are you", TryAgain(reason="the mail server refused the sender (SMTP 550)")),
        ("MAIL", b"552 5.3.4 too large", Refused(reason="the server refused the mail (SMTP 552)")),
        ("connect", b"554 5.3.2 not open to you", TryAgain(reason="the mail server refused us (SMTP 554)")),
        ("connect", b"421 4.3.2 too many connections", TryAgain(reason="the mail server refused us (SMTP 421)")),
    ],
)
def test_what_a_server_says_decides_whether_another_try_may_help(step: str, reply: bytes, verdict: Verdict) -> None:
    with scripted_mail_server(**{step: reply}) as server:
        assert send(mail_by(plain(server.port)), outgoing()) == [verdict]


def test_a_server_that_refuses_every_greeting_kills_no_message() -> None:
    with scripted_mail_server(EHLO=b"550 no", HELO=b"550 no") as server:
        assert send(mail_by(plain(server.port)), outgoing()) == [
            TryAgain(reason="the mail server refused us (SMTP 550)")
        ]


@pytest.mark.parametrize("reply", [b"\xff\xfe", b" ", b"999", b"250-", b"HTTP/1.1 400 Bad Request"])
def test_garbage_in_place_of_a_reply_is_a_reason_to_try_again(reply: bytes) -> None:
    with scripted_mail_server(connect=reply) as server:
        channel = Email(plain(server.port), sender=SENDER, timeout=1)
        (verdict,) = send(lambda: channel, outgoing())
    assert isinstance(verdict, TryAgain)


def test_a_server_that_is_not_there_is_a_reason_to_try_again() -> None:
    (verdict,) = send(mail_by(plain(free_port())), outgoing())
    assert verdict == TryAgain(reason="the mail server cannot be used: ConnectionRefusedError")


def test_certificates_that_are_not_there_are_a_reason_to_try_again(tmp_path: Path) -> None:
    settings = SmtpSettings(host="127.0.0.1", port=free_port(), encryption="implicit", ca_file=tmp_path / "none.pem")
    assert send(mail_by(settings), outgoing()) == [TryAgain(reason="the mail server cannot be used: FileNotFoundError")]


def test_mails_one_after_the_other_take_one_connection() -> None:
    with mail_server() as server:
        found = send(mail_by(plain(server.port)), *(outgoing(key=f"{number}") for number in range(5)))
    assert [type(verdict) for verdict in found] == [Sent] * 5
    assert len({mail.client for mail in server.mails.taken}) == 1


def test_a_server_that_closes_idle_connections_gets_the_next_mail_by_another() -> None:
    with mail_server(timeout=0.2) as server:

        async def run() -> list[Verdict]:
            channel = mail_by(plain(server.port))()
            found = [await channel.send(outgoing())]
            while any(connection.is_connected for connection in channel._idle):
                await asyncio.sleep(0.01)
            found.append(await channel.send(outgoing(key="later")))
            await channel.close()
            return found

        found = asyncio.run(run())
    assert [type(verdict) for verdict in found] == [Sent, Sent]
    assert len({mail.client for mail in server.mails.taken}) == 2


def test_an_attempt_that_is_cancelled_leaves_no_connection_behind() -> None:
    with scripted_mail_server(end=b"") as server:

        async def run() -> None:
            channel = mail_by(plain(server.port))()
            sending = asyncio.create_task(channel.send(outgoing()))
            while "DATA" not in server.heard:
                await asyncio.sleep(0.01)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert channel._idle == []
            await channel.close()

        asyncio.run(run())


# --- mails as files ---------------------------------------------------------------------------------------------


def test_a_mail_in_the_mailbox_is_read_by_any_mail_program(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "mailbox"
    (verdict,) = send(lambda: Mailbox(folder, sender=SENDER), outgoing(title="Größe 😀", message="سلام"))
    (file,) = folder.iterdir()
    assert verdict == Sent(provider_id=file.name)
    assert file.suffix == ".eml"
    assert folder.stat().st_mode & 0o077 == 0
    message = message_from_bytes(file.read_bytes(), policy=email_policy)
    assert (message["subject"], message["to"]) == ("Größe 😀", "person@dossier.example")
    assert message.defects == []
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert "سلام" in message.get_body(("plain",)).get_content()


def test_the_same_key_writes_the_same_file_with_the_same_bytes(tmp_path: Path) -> None:
    def mailbox() -> Mailbox:
        return Mailbox(tmp_path, sender=SENDER)

    send(mailbox, outgoing())
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    send(mailbox, outgoing(attempt=2))
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [(file.name, before)]
    send(mailbox, outgoing(key="another"), outgoing(tenant_id="another"))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_mailbox_that_cannot_be_written_is_a_reason_to_try_again(tmp_path: Path) -> None:
    # A file where the folder should be refuses root, too.
    (tmp_path / "mailbox").write_text("")
    (verdict,) = send(lambda: Mailbox(tmp_path / "mailbox", sender=SENDER), outgoing())
    assert isinstance(verdict, TryAgain)
    assert verdict.reason.startswith("the mailbox folder cannot be written: ")


def test_an_address_that_is_none_is_refused_by_the_mailbox_and_leaves_no_file(tmp_path: Path) -> None:
    found = send(lambda: Mailbox(tmp_path, sender=SENDER), *(outgoing(address=text) for text in ("", "a@", None, "@")))
    assert [type(verdict) for verdict in found] == [Refused] * 4
    assert list(tmp_path.iterdir()) == []


# --- posts ------------------------------------------------------------------------------------------------------


def post_to(server: Receiver) -> Callable[[], Webhook]:
    return server.channel


def test_a_post_is_signed_as_the_library_of_standard_webhooks_expects() -> None:
    item = DigestItem(title="A < B", message="مرحبا", urgency=1, created_at=NOON)
    with receiver() as server:
        send(post_to(server), outgoing(title="Größe 😀"), outgoing(kind="digest", key="d", items=(item,)))
    for post in server.posts:
        document = Verifier(SECRET).verify(post.body, dict(post.headers))
        assert document == post.document
        with pytest.raises(WebhookVerificationError):
            Verifier(SECRET).verify(post.body + b" ", dict(post.headers))
        with pytest.raises(WebhookVerificationError):
            Verifier("whsec_YW5vdGhlcg==").verify(post.body, dict(post.headers))
    assert server.posts[0].document["data"]["title"] == "Größe 😀"
    assert server.posts[0].headers["content-type"] == "application/json"
    assert server.posts[0].path == "/hooks"
    assert server.posts[1].document["data"]["items"] == [{"title": "A < B", "message": "مرحبا", "urgency": 1}]


def test_every_attempt_carries_the_same_idempotency_key_and_each_message_its_own() -> None:
    with receiver() as server:
        send(
            post_to(server),
            *(outgoing(attempt=1), outgoing(attempt=2), outgoing(key="another"), outgoing(tenant_id="another")),
        )
    keys = [post.headers["idempotency-key"] for post in server.posts]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert keys == [post.headers["webhook-id"] for post in server.posts]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_means_taken(status: int) -> None:
    with receiver() as server:
        server.otherwise = Answer(status, {"x-request-id": "req-1"})
        assert send(post_to(server), outgoing()) == [Sent(provider_id="req-1")]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with receiver() as server, receiver() as elsewhere:
        server.otherwise = Answer(status, {"location": elsewhere.url})
        assert send(post_to(server), outgoing()) == [Refused(reason=f"the receiver answered {status}")]
        assert len(server.posts) == 1
        assert elsewhere.posts == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 422])
def test_a_4xx_will_not_change(status: int) -> None:
    with receiver() as server:
        server.otherwise = Answer(status, {"retry-after": "5"})
        assert send(post_to(server), outgoing()) == [Refused(reason=f"the receiver answered {status}")]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_busy_or_broken_receiver_is_tried_again(status: int) -> None:
    with receiver() as server:
        server.otherwise = Answer(status)
        assert send(post_to(server), outgoing()) == [TryAgain(reason=f"the receiver answered {status}")]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120.0), (" 0 ", 0.0), ("99999999999", 86400.0), ("soon", None), ("-1", None)]
)
def test_the_seconds_that_a_receiver_asks_for_are_passed_on(status: int, value: str, seconds: float | None) -> None:
    with receiver() as server:
        server.otherwise = Answer(status, {"retry-after": value})
        assert send(post_to(server), outgoing()) == [
            TryAgain(reason=f"the receiver answered {status}", seconds=seconds)
        ]


def test_the_date_that_a_receiver_names_is_passed_on_as_seconds() -> None:
    with receiver() as server:
        before = datetime.now(UTC)
        asked = (before + timedelta(hours=2)).replace(microsecond=0)
        server.otherwise = Answer(503, {"retry-after": format_datetime(asked, usegmt=True)})
        (verdict,) = send(post_to(server), outgoing())
        after = datetime.now(UTC)
    assert isinstance(verdict, TryAgain)
    assert verdict.seconds is not None
    assert (asked - after).total_seconds() <= verdict.seconds <= (asked - before).total_seconds()


@pytest.mark.parametrize(
    "value",
    ["Wed, 21 Oct 99999999999999 07:28:00 GMT", "1 Jan 2025 0:0:9999999999999999999 GMT", "9" * 5000, ",", "\xe9"],
)
def test_a_retry_after_that_is_nonsense_harms_nobody(value: str) -> None:
    with receiver() as server:
        server.otherwise = Answer(503, {"retry-after": value})
        (verdict,) = send(post_to(server), outgoing())
    assert isinstance(verdict, TryAgain)
    assert verdict.seconds in (None, 86400.0)


def test_posts_one_after_the_other_take_one_connection_when_the_answers_are_small() -> None:
    with receiver() as server:
        server.otherwise = Answer(200, body=b"x" * 60_000)
        found = send(post_to(server), *(outgoing(key=f"{number}") for number in range(4)))
    assert [type(verdict) for verdict in found] == [Sent] * 4
    assert len({post.client for post in server.posts}) == 1


def test_of_an_answer_without_end_only_the_beginning_is_read() -> None:
    with receiver() as server:
        server.otherwise = Answer(200, body=b"x" * 50_000_000)
        found = send(post_to(server), outgoing(), outgoing(key="other"))
    assert [type(verdict) for verdict in found] == [Sent] * 2
    assert len({post.client for post in server.posts}) == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://[",
        "http://",
        "https://",
        "http://\x00/",
        "http://nowhere.invalid/",
        "http://a b/",
    ],
)
def test_an_address_that_leads_nowhere_is_a_reason_to_try_again(url: str) -> None:
    (verdict,) = send(lambda: Webhook(url, SECRET, timeout=30, connections=1), outgoing())
    assert isinstance(verdict, TryAgain)


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n\r\n", b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nx"]
)
def test_garbage_in_place_of_an_answer_is_a_reason_to_try_again(raw: bytes) -> None:
    async def run() -> Verdict:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}}")
            writer.write(raw)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            channel = Webhook(f"http://127.0.0.1:{port}/", SECRET, timeout=30, connections=1)
            try:
                return await channel.send(outgoing(metadata={}))
            finally:
                await channel.close()

    assert isinstance(asyncio.run(run()), TryAgain)


# --- as configured ----------------------------------------------------------------------------------------------


def test_without_a_mail_server_mails_go_to_the_mailbox_folder(tmp_path: Path) -> None:
    lanes = configured_lanes(Settings(data_directory=tmp_path), Pace())
    assert list(lanes) == ["email"]
    (verdict,) = send(lambda: lanes["email"].channel, outgoing())
    assert isinstance(verdict, Sent)
    assert len(list((tmp_path / "mailbox").glob("*.eml"))) == 1


def test_settings_lead_to_the_mail_server_and_the_receiver_that_they_name(authority: trustme.CA, trusted: Path) -> None:
    options = {"authenticator": Logins("desk", "r1ght"), "auth_required": True}
    with tls_server("starttls", authority, **options) as mails, receiver() as posts:
        settings = read_settings(
            {
                "DOSSIER_SMTP_HOST": "127.0.0.1",
                "DOSSIER_SMTP_PORT": str(mails.port),
                "DOSSIER_SMTP_USERNAME": "desk",
                "DOSSIER_SMTP_PASSWORD": "r1ght",
                "DOSSIER_SMTP_CA_FILE": str(trusted),
                "DOSSIER_MAIL_FROM": "Ministry <m@ministry.example>",
                "DOSSIER_WEBHOOK_URL": posts.url,
                "DOSSIER_WEBHOOK_SECRET": SECRET,
                "DOSSIER_MAILS_PER_RUN": "100",
                "DOSSIER_WEBHOOKS_PER_RUN": "200",
            }
        )
        lanes = configured_lanes(settings, Pace())
        for lane in lanes.values():
            assert isinstance(send(lambda lane=lane: lane.channel, outgoing())[0], Sent)
        assert mails.mails.taken[0].sender == "m@ministry.example"
        assert len(posts.posts) == 1
    assert {name: lane.limit for name, lane in lanes.items()} == {"email": 100, "webhook": 200}


@pytest.mark.parametrize("sender", ["nonsense", "A <>", "Dossiers, Inc. <d@x.example>", "@x.example", "ü@x.example"])
def test_a_sender_that_no_mail_can_have_is_refused_by_its_name_before_any_mail_dies(sender: str) -> None:
    with pytest.raises(SettingError, match=r"^DOSSIER_MAIL_FROM is .*; write an address"):
        configured_lanes(read_settings({"DOSSIER_MAIL_FROM": sender}), Pace())


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!", "whsec_ä", "whsec_a", ""])
def test_a_secret_that_signs_nothing_is_refused_by_its_name_and_not_shown(secret: str) -> None:
    with pytest.raises(SettingError) as caught:
        Webhook("http://127.0.0.1/", secret, timeout=1, connections=1)
    assert str(caught.value).startswith("DOSSIER_WEBHOOK_SECRET cannot be read")
    assert not secret.removeprefix("whsec_") or secret not in str(caught.value)
