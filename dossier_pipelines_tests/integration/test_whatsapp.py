"""WhatsApp against a peer with the Cloud API's shapes: what is posted, and what each answer means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from dossier_pipelines.notifications.channels import whatsapp
from dossier_pipelines.notifications.channels.channel import (
    FallBack,
    OutgoingMessage,
    Refused,
    Sent,
    TryAgain,
    Verdict,
)
from dossier_pipelines.notifications.channels.whatsapp import WhatsApp, international_number
from dossier_pipelines.notifications.configured import configured_lanes
from dossier_pipelines.notifications.delivery import Pace
from dossier_pipelines.shared.environment import WhatsAppSettings, read_settings
from dossier_pipelines_tests.outbox import HEARING, RECORD, Answer, Receiver, outgoing, receiver
from dossier_pipelines_tests.processes import free_port

APP = "https://desk.example"
TOKEN = "EAAs3cret"
PHONE = "+966501234567"
TAKEN = {
    "messaging_product": "whatsapp",
    "contacts": [{"input": PHONE, "wa_id": "966501234567"}],
    "messages": [{"id": "wamid.HBgMOTY2", "message_status": "accepted"}],
}


def settings_for(url: str) -> WhatsAppSettings:
    return WhatsAppSettings(
        url=url, phone_number_id="1065", token=TOKEN, templates=(("hearing_reminder", "hearing_v1"),)
    )


def channel_to(server: Receiver, *, app_url: str | None = APP) -> Callable[[], WhatsApp]:
    url = server.url.removesuffix("/hooks")
    return lambda: WhatsApp(settings_for(url), timeout=30, connections=4, app_url=app_url)


def send(make: Callable[[], WhatsApp], *messages: OutgoingMessage) -> list[Verdict]:
    """Send one after the other by one channel."""

    async def run() -> list[Verdict]:
        channel = make()
        try:
            return [await channel.send(message) for message in messages]
        finally:
            await channel.close()

    return asyncio.run(run())


def reminder(**fields: Any) -> OutgoingMessage:
    given = {"kind": "hearing_reminder", "metadata": HEARING, "phone": PHONE, "timezone": "Asia/Riyadh"}
    return outgoing(**given | fields)


def taken(status: int = 200, document: object = TAKEN) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(document).encode())


def error(code: object, status: int = 400, **headers: str) -> Answer:
    """An error as the Cloud API words it, with what must not be repeated in it."""
    said = {
        "message": f"(#{code}) {PHONE} {TOKEN}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": f"{PHONE} is not valid"},
        "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
    }
    return Answer(status, {"content-type": "application/json", **headers}, json.dumps({"error": said}).encode())


# --- what is posted ---------------------------------------------------------------------------------------------


def test_a_reminder_is_posted_as_an_approved_template_with_its_values() -> None:
    with receiver() as server:
        server.otherwise = taken()
        assert send(channel_to(server), reminder()) == [Sent(provider_id="wamid.HBgMOTY2")]
    (post,) = server.posts
    assert post.path == "/1065/messages"
    assert post.headers["authorization"] == f"Bearer {TOKEN}"
    assert post.headers["content-type"] == "application/json"
    document = post.document
    identity = document.pop("biz_opaque_callback_data")
    assert identity.startswith("msg_")
    assert document == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": PHONE,
        "type": "template",
        "template": {
            "name": "hearing_v1",
            "language": {"code": "en"},
            "components": [
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "text": text}
                        for text in (
                            *("2024-0123", "GST Appeal of Noor Trading", "GSTAT, Ahmedabad"),
                            *("Thursday, June 12, 2025", "10:30 AM (Arabian Standard Time)"),
                        )
                    ],
                },
                {
                    "type": "button",
                    "sub_type": "url",
                    "index": "0",
                    "parameters": [{"type": "text", "text": f"hearings/{RECORD}"}],
                },
            ],
        },
    }


def test_without_an_application_a_template_has_no_button() -> None:
    with receiver() as server:
        server.otherwise = taken()
        send(channel_to(server, app_url=None), reminder(locale="ar-SA"))
    template = server.posts[0].document["template"]
    assert [component["type"] for component in template["components"]] == ["body"]
    assert template["language"] == {"code": "ar"}


def test_every_attempt_is_known_by_the_same_name_and_each_message_by_its_own() -> None:
    with receiver() as server:
        server.otherwise = taken()
        send(
            channel_to(server),
            *(reminder(attempt=1), reminder(attempt=2), reminder(key="another"), reminder(tenant_id="another")),
        )
    names = [post.document["biz_opaque_callback_data"] for post in server.posts]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert len({post.client for post in server.posts}) == 1


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+966 50 123 4567", "+966501234567"),
        (" 00966501234567 ", "+966501234567"),
        ("+46 70 123 45 67", "+46701234567"),
        ("+91-98250-12345", "+919825012345"),
        # Without its country it could be anybody's.
        ("050 123 4567", None),
        ("+966", None),
        ("+999501234567", None),
        ("call me", None),
        ("", None),
        ("+" + "9" * 5000, None),
    ],
)
def test_a_number_is_sent_to_as_e164_or_not_at_all(written: str, number: str | None) -> None:
    assert international_number(written) == number


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"phone": "050 123 4567"}, "the telephone number is no valid one with its country"),
        ({"phone": None}, "the telephone number is no valid one with its country"),
        ({"kind": "task_overdue"}, "DOSSIER_WHATSAPP_TEMPLATES names no template for this kind"),
    ],
)
def test_what_cannot_go_by_whatsapp_falls_back_to_mail_without_being_posted(
    fields: dict[str, Any], reason: str
) -> None:
    with receiver() as server:
        (verdict,) = send(channel_to(server), reminder(**fields))
    assert isinstance(verdict, FallBack)
    assert verdict.reason.startswith(reason)
    assert server.posts == []


def test_metadata_that_no_message_can_be_made_of_is_refused_and_not_posted() -> None:
    with receiver() as server:
        (verdict,) = send(channel_to(server), reminder(metadata={**HEARING, "hearing_at": "s3cret"}))
    assert isinstance(verdict, Refused)
    assert "metadata.hearing_at is wrong" in verdict.reason
    assert "s3cret" not in verdict.reason
    assert server.posts == []


# --- what an answer means ---------------------------------------------------------------------------------------


def test_no_code_means_two_things() -> None:
    tables = (whatsapp.LATER, whatsapp.OURS_TO_MEND, whatsapp.BY_MAIL, whatsapp.WRONG)
    codes = [code for table in tables for code in table]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (FallBack, [130472, 130497, 131021, 131026, 131030, 131047, 131049, 131050, 132015, 132016]),
        (Refused, [100, 131008, 131009, 131051, 132000, 132001, 132005, 132007, 132012, 135000]),
        (TryAgain, [1, 2, 4, 80007, 130429, 131000, 131016, 131048, 131056, 131057, 133004]),
        (TryAgain, [0, 3, 10, 33, 190, 200, 219, 299, 368, 131005, 131031, 131037, 131042, 131045, 133010]),
    ],
)
def test_a_code_decides_and_neither_the_number_nor_the_token_is_repeated(kind: type, codes: list[int]) -> None:
    with receiver() as server:
        server.answers = [error(code, 400) for code in codes]
        found = send(channel_to(server), *(reminder(key=str(code)) for code in codes))
    for code, verdict in zip(codes, found, strict=True):
        assert type(verdict) is kind, code
        assert not isinstance(verdict, Sent)
        assert verdict.reason.startswith(f"WhatsApp said {code}: ")
        for secret in (PHONE, PHONE[1:], TOKEN, "details"):
            assert secret not in verdict.reason


@pytest.mark.parametrize("code", [0, 10, 190, 200, 131005])
def test_trouble_with_the_token_says_what_to_do(code: int) -> None:
    with receiver() as server:
        server.otherwise = error(code, 401)
        (verdict,) = send(channel_to(server), reminder())
    assert isinstance(verdict, TryAgain)
    assert verdict.reason.endswith("set DOSSIER_WHATSAPP_TOKEN anew")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (404, Refused), (401, TryAgain), (403, TryAgain), (408, TryAgain), (429, TryAgain)]
    + [(status, TryAgain) for status in (500, 502, 503, 504)],
)
@pytest.mark.parametrize("body", [error(987654).body, b"<html>Bad Gateway</html>", b"", b"[]", b'{"error": "no"}'])
def test_a_code_that_nobody_knows_is_judged_by_its_status(status: int, kind: type, body: bytes) -> None:
    with receiver() as server:
        server.otherwise = Answer(status, body=body)
        (verdict,) = send(channel_to(server), reminder())
    assert type(verdict) is kind
    assert not isinstance(verdict, Sent)
    assert verdict.reason.startswith(f"WhatsApp answered {status}")


def test_an_error_that_says_that_it_will_pass_is_tried_again() -> None:
    with receiver() as server:
        server.otherwise = taken(400, {"error": {"code": 987654, "is_transient": True}})
        assert send(channel_to(server), reminder()) == [TryAgain(reason="WhatsApp answered 400 and said 987654")]


@pytest.mark.parametrize(("code", "status"), [(130429, 429), (80007, 400), (987654, 429), (987654, 503), (190, 401)])
def test_the_seconds_that_whatsapp_asks_for_are_passed_on(code: int, status: int) -> None:
    with receiver() as server:
        server.otherwise = error(code, status, **{"retry-after": "120"})
        (verdict,) = send(channel_to(server), reminder())
    assert isinstance(verdict, TryAgain)
    assert verdict.seconds == 120.0


@pytest.mark.parametrize(
    "document", [{}, [], {"messages": []}, {"messages": [{}]}, {"messages": [{"id": 7}]}, {"messages": "wamid"}]
)
def test_an_answer_that_names_no_message_does_not_count_as_taken(document: object) -> None:
    with receiver() as server:
        server.otherwise = taken(document=document)
        assert send(channel_to(server), reminder()) == [
            TryAgain(reason="WhatsApp answered 200 without naming the message")
        ]


def test_no_redirect_carries_the_token_elsewhere() -> None:
    with receiver() as server, receiver() as elsewhere:
        server.otherwise = Answer(307, {"location": elsewhere.url})
        assert send(channel_to(server), reminder()) == [Refused(reason="WhatsApp answered 307")]
        assert elsewhere.posts == []


def test_of_an_answer_without_end_only_the_beginning_is_read() -> None:
    with receiver() as server:
        server.otherwise = Answer(500, body=b"x" * 50_000_000)
        found = send(channel_to(server), reminder(), reminder(key="other"))
    assert [type(verdict) for verdict in found] == [TryAgain] * 2


def test_a_server_that_is_not_there_is_a_reason_to_try_again_that_names_no_address() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    (verdict,) = send(lambda: WhatsApp(settings_for(url), timeout=30, connections=1), reminder())
    assert verdict == TryAgain(reason="WhatsApp did not answer properly: ClientConnectorError")


def test_a_number_is_a_lane_with_its_own_limit_only_when_it_is_configured() -> None:
    environ = {
        "DOSSIER_WHATSAPP_PHONE_NUMBER_ID": "1065",
        "DOSSIER_WHATSAPP_TOKEN": TOKEN,
        "DOSSIER_WHATSAPP_TEMPLATES": "hearing_reminder=hearing_v1",
        "DOSSIER_WHATSAPPS_PER_RUN": "80",
    }
    lanes = configured_lanes(read_settings(environ), Pace())
    assert (lanes["whatsapp"].limit, lanes["whatsapp"].mail_stands_in) == (80, True)
    assert not lanes["email"].mail_stands_in
    assert "whatsapp" not in configured_lanes(read_settings({}), Pace())
