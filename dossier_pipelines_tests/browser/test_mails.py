"""Mails as a person sees them: the HTML part of real mails, in a real browser, on a desk and on a phone."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default as email_policy
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from dossier_pipelines.notifications.rendering import mail
from dossier_pipelines_tests.outbox import DEADLINES, HEARING, SENDER, outgoing

APP = "https://desk.example.org"
ATTACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
LONG = "x" * 300
METADATA = {"deadlines": DEADLINES, "hearing_reminder": HEARING}
LOCALES = ("en", "ar")
KINDS = ("deadlines", "hearing_reminder")
DESK, PHONE = 700, 340

# Every piece of text with its size, its contrast with what is behind it (WCAG 2.2) and its place.
TEXTS = """
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const color = text => text.match(/[\\d.]+/g).map(Number);
const behind = e => { for (; e; e = e.parentElement) { const c = color(getComputedStyle(e).backgroundColor);
    if (c.length === 3) return c; } return [255, 255, 255]; };
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
    if (!walker.currentNode.data.trim()) continue;
    const e = walker.currentNode.parentElement, style = getComputedStyle(e), range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    const [a, b] = [light(color(style.color)), light(behind(e))].sort((x, y) => y - x);
    found.push({text: walker.currentNode.data.trim(), size: parseFloat(style.fontSize),
        contrast: (a + 0.05) / (b + 0.05), left: box.left, right: box.right, top: box.top, height: box.height});
}
return found;
"""
# Whether the letters of a text stand from left to right, each after the one before.
READS_FROM_THE_LEFT = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const at = walker.currentNode.data.indexOf(arguments[0]);
    if (at < 0) continue;
    const lefts = [...arguments[0]].map((_, i) => { const r = document.createRange();
        r.setStart(walker.currentNode, at + i); r.setEnd(walker.currentNode, at + i + 1);
        return r.getBoundingClientRect().left; });
    return lefts.every((left, i) => i === 0 || left > lefts[i - 1]);
}
return null;
"""


def show(browser: Chrome, folder: Path, kind: str, locale: str, *, width: int = DESK, **metadata: Any) -> None:
    """Open the HTML part of a mail in a window of that width, as high as the mail."""
    message = outgoing(
        kind=kind,
        metadata={**METADATA[kind], **metadata},
        locale=locale,
        timezone="Asia/Riyadh",
        created_at=datetime(2025, 6, 11, 6, tzinfo=UTC),
    )
    parsed = message_from_bytes(mail(message, sender=SENDER, app_url=APP).content, policy=email_policy)
    page = folder / "mail.html"
    page.write_text(parsed.get_body(("html",)).get_content(), encoding="utf-8")
    browser.get(page.as_uri())
    resize(browser, width, 400)
    resize(browser, width, int(browser.execute_script("return document.documentElement.scrollHeight")))


def resize(browser: Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def texts(browser: Chrome) -> list[dict[str, Any]]:
    return list(browser.execute_script(TEXTS))


def hostile(kind: str) -> dict[str, Any]:
    """Metadata that tries to be a page, and to be wider than any."""
    if kind == "hearing_reminder":
        return {"case_title": ATTACK, "court": LONG, "case_number": LONG, "city": LONG}
    return {"items": [{**item, "title": ATTACK + LONG, "court": LONG, "city": LONG} for item in DEADLINES["items"]]}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_is_readable_on_a_desk(
    browser: Chrome, tmp_path: Path, screenshots: Path | None, kind: str, locale: str
) -> None:
    show(browser, tmp_path, kind, locale)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    for found in texts(browser):
        assert found["size"] >= 14, found
        assert found["contrast"] >= 4.5, found
        assert 0 <= found["left"] < found["right"] <= DESK, found
    if screenshots is not None:
        name = "deadline_mail" if kind == "deadlines" else "hearing_reminder"
        browser.save_screenshot(str(screenshots / f"{name}_{locale}.png"))


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_fits_a_phone_whatever_its_texts_are(browser: Chrome, tmp_path: Path, kind: str, locale: str) -> None:
    for metadata in ({}, hostile(kind)):
        show(browser, tmp_path, kind, locale, width=PHONE, **metadata)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
        assert all(found["left"] >= 0 and found["right"] <= PHONE for found in texts(browser))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_from_data_runs(browser: Chrome, tmp_path: Path, kind: str) -> None:
    show(browser, tmp_path, kind, "en", **hostile(kind))
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('script, img').length") == 0
    assert any(ATTACK in found["text"] for found in texts(browser))


@pytest.mark.parametrize("kind", KINDS)
def test_arabic_begins_at_the_right_and_english_at_the_left(browser: Chrome, tmp_path: Path, kind: str) -> None:
    sides = {}
    for locale in LOCALES:
        show(browser, tmp_path, kind, locale)
        heading = texts(browser)[0]
        sides[locale] = (heading["left"], DESK - heading["right"])
    assert sides["en"][0] < 100 < sides["en"][1]
    assert sides["ar"][1] < 100 < sides["ar"][0]
    assert abs(sides["en"][0] - sides["ar"][1]) < 2


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(("kind", "number"), [("deadlines", "2024-0123"), ("hearing_reminder", "2024-0123")])
def test_a_latin_case_number_is_never_turned_round(
    browser: Chrome, tmp_path: Path, kind: str, number: str, locale: str
) -> None:
    show(browser, tmp_path, kind, locale)
    assert browser.execute_script(READS_FROM_THE_LEFT, number) is True


@pytest.mark.parametrize(
    ("locale", "high", "normal"), [("en", "HIGH", "NORMAL"), ("ar", "أولوية عالية", "أولوية عادية")]
)
def test_high_priority_is_seen_first(browser: Chrome, tmp_path: Path, locale: str, high: str, normal: str) -> None:
    show(browser, tmp_path, "deadlines", locale)
    place = {found["text"]: found["top"] for found in texts(browser)}
    tops = [next(top for text, top in place.items() if text.startswith(word)) for word in (high, normal)]
    titles = ("Submit Reply to ASMT-10 Notice", "GST Appeal", "Prepare hearing documents")
    urgent, hearing, later = (place[title] for title in titles)
    assert tops[0] < urgent < hearing < tops[1] < later
