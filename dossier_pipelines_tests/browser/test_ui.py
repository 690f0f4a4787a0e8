"""What an analyst sees in the Dagster UI after `make up`, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from dossier_pipelines_tests.processes import wait_until

T = TypeVar("T")

ASSETS = {
    "users",
    "dossiers",
    "engagements",
    "commitments",
    "documents",
    "engagement_stats",
    "commitment_stats",
    "health_scores",
    "dossier_overview",
    "health_by_group",
}
CHECKS = ("drift", "formula_consistency", "freshness", "ranges", "settings_in_force", "uniqueness")
# Of history nothing is there before somebody asks for days.
HISTORY = {"commitment_history", "daily_snapshots", "health_trend_by_group"}
SCHEDULES = (
    *("refresh_health_scores", "detect_overdue_commitments", "recompute_health_scores_nightly"),
    *("take_daily_snapshots", "check_automation_health", "check_sla_and_overdue", "send_hearing_reminders"),
    *("check_upcoming_deadlines", "analytics_snapshot"),
)
SENSORS = (
    "changed_records",
    "due_notifications",
    "ended_runs",
    "job_locks",
    "late_records",
    "late_litigation_records",
    "unanswered_events",
)
GROUP = "/locations/dossier_pipelines/asset-groups/dossiers/lineage"
LITIGATION_GROUP = "/locations/dossier_pipelines/asset-groups/litigation/lineage"
# What `up` materializes of the litigation desk.
LITIGATION = {
    *("tenants", "users", "courts", "cases", "tasks", "hearings", "case_documents", "sla_policies", "automation_rules"),
    *("late_tasks", "daily_metrics"),
}


def wait_for(condition: Callable[[], T], what: str) -> T:
    """Do as `wait_until`, on pages that replace what they show while one looks at it: then one looks again."""

    def looked() -> T | None:
        try:
            return condition()
        except StaleElementReferenceException:
            return None

    found = wait_until(looked, what)
    assert found is not None
    return found


def open_page(browser: Chrome, address: str, *, width: int = 1600, height: int = 1000) -> None:
    """Open a page in a window of that size, with the navigation folded so that the content has the room."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)
    wait_for(lambda: displayed(browser, "Hide navigation") or folded(browser), "the navigation is there")
    if not folded(browser):
        click(browser, "Hide navigation")
        wait_for(lambda: folded(browser), "the navigation is folded")
        browser.get(address)


def folded(browser: Chrome) -> bool:
    """Whether there is a page whose navigation shows no words."""
    return bool(browser.find_elements(By.TAG_NAME, "nav") or text(browser)) and "Deployment" not in text(browser)


def text(browser: Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def displayed(browser: Chrome, words: str) -> list[WebElement]:
    """The visible elements whose own text is ``words``."""
    found = browser.find_elements(By.XPATH, f"//*[normalize-space(text())='{words}']")
    return [element for element in found if element.is_displayed()]


def await_shown(browser: Chrome, *words: str) -> None:
    """Wait until each of ``words`` is to be seen."""
    for word in words:
        wait_for(lambda word=word: displayed(browser, word), f"{word!r} is shown")


def click(browser: Chrome, words: str, *, place: int = 0) -> None:
    """Click the element whose own text is ``words``, the first of several or another."""

    def clicked() -> bool:
        found = displayed(browser, words)
        if found:
            found[place].click()
        return bool(found)

    wait_for(clicked, f"{words!r} is there and clicked")


def is_inside(browser: Chrome, element: WebElement) -> bool:
    """Whether an element lies within the window."""
    box = browser.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "return box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight",
        element,
    )
    return bool(box)


def opacity(browser: Chrome, element: WebElement) -> float:
    """How much of an element one sees, with everything around it."""
    seen = "let o = 1; for (let e = arguments[0]; e; e = e.parentElement) o *= getComputedStyle(e).opacity; return o"
    return float(browser.execute_script(seen, element))


def drawn(browser: Chrome, selector: str) -> int:
    """How many pictures there are, or 0 while one of them cannot be seen."""
    widths = [picture.get_attribute("naturalWidth") for picture in browser.find_elements(By.CSS_SELECTOR, selector)]
    return len(widths) if all(int(width or 0) > 0 for width in widths) else 0


def assert_nothing_in_front(browser: Chrome) -> None:
    """No dialog, no overlay, no error covers the page."""
    selectors = "[role=dialog], .bp5-overlay-backdrop, .bp4-overlay-backdrop"
    wait_for(
        lambda: not [e for e in browser.find_elements(By.CSS_SELECTOR, selectors) if e.is_displayed()],
        "nothing covers the page",
    )
    assert "Application error" not in text(browser)


def keep(browser: Chrome, screenshots: Path | None, name: str) -> None:
    if screenshots is not None:
        browser.save_screenshot(str(screenshots / name))


def test_the_asset_graph_shows_every_asset_of_the_desk_materialized(
    browser: Chrome, ui: str, screenshots: Path | None
) -> None:
    open_page(browser, ui + GROUP, width=1900, height=1560)
    wait_for(lambda: text(browser).count("Materialized") == len(ASSETS), "every asset says when it was materialized")
    # 2 of 2, 3 of 3, ...: each asset with checks says that all of them passed.
    wait_for(lambda: len(re.findall(r"(\d) / \1 Passed", text(browser))) == 6, "the checks are shown as passed")
    for name in ASSETS | HISTORY:
        wait_for(
            lambda name=name: any(is_inside(browser, element) for element in displayed(browser, name)),
            f"{name} lies within the window",
        )
    assert "Failed" not in text(browser)
    assert_nothing_in_front(browser)
    keep(browser, screenshots, "asset_graph.png")


def test_the_page_of_the_scores_shows_what_they_add_up_to(browser: Chrome, ui: str, screenshots: Path | None) -> None:
    open_page(browser, f"{ui}/assets/dossiers/health_scores", height=1120)
    wait_for(lambda: "average_score" in text(browser), "the metadata is shown")
    # The long table of the columns is above the metadata.
    assert "The weights and thresholds it was computed with" in text(browser)
    click(browser, "Columns")
    wait_for(lambda: "settings_version" not in text(browser), "the table of columns is folded")
    rows = wait_for(
        lambda: {
            cells[0].text: cells[-1].text
            for row in browser.find_elements(By.TAG_NAME, "tr")
            if len(cells := row.find_elements(By.TAG_NAME, "td")) == 3
        },
        "the metadata is read",
    )
    assert re.fullmatch(r"\d\d\.\d+", rows["average_score"])
    bands = [int(rows[band]) for band in ("excellent", "good", "fair", "poor")]
    assert sum(bands) == int(rows["scored"])
    assert int(rows["scored"]) + int(rows["insufficient_data"]) == 595
    assert rows["drifted"] == "0"
    assert_nothing_in_front(browser)
    keep(browser, screenshots, "health_scores.png")


def test_every_check_of_the_scores_has_passed(browser: Chrome, ui: str, screenshots: Path | None) -> None:
    open_page(browser, f"{ui}/assets/dossiers/health_scores?view=checks", height=700)
    wait_for(lambda: text(browser).count("Succeeded") == len(CHECKS), "every check says how it ended")
    await_shown(browser, *CHECKS)
    click(browser, "formula_consistency")
    wait_for(lambda: "This is a blocking asset check." in text(browser), "the check is shown")
    wait_for(lambda: "Every score is the weighted sum of its components" in text(browser), "its promise is shown")
    await_shown(browser, "Passed")
    click(browser, "Plots")
    assert_nothing_in_front(browser)
    keep(browser, screenshots, "health_scores_checks.png")


def test_the_scores_by_group_are_tables_that_one_can_read(browser: Chrome, ui: str) -> None:
    open_page(browser, f"{ui}/assets/dossiers/health_by_group")
    wait_for(lambda: "Western Europe" in text(browser), "the metadata is shown")
    # A table inside of the table of metadata: markdown that was rendered, not shown as it is written.
    header, *groups = wait_for(
        lambda: [
            [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
            for table in browser.find_elements(By.CSS_SELECTOR, "td table")
            if "Western Europe" in table.text
            for row in table.find_elements(By.TAG_NAME, "tr")
        ],
        "the table of the regions is read",
    )
    assert header[1:] == [
        "average score",
        "dossiers",
        "excellent",
        "good",
        "fair",
        "poor",
        "insufficient data",
    ]
    assert len(groups) == 4
    assert sum(int(group[2]) for group in groups) == 595
    assert "|---" not in text(browser)
    assert_nothing_in_front(browser)


def test_the_litigation_desk_shows_its_records_and_what_is_made_of_them(
    browser: Chrome, ui: str, screenshots: Path | None
) -> None:
    # So high that no asset lies beyond the edge.
    open_page(browser, ui + LITIGATION_GROUP, width=2600, height=2800)
    shown = LITIGATION | {"task_history", "task_flags", "anomalies"}
    wait_for(lambda: not {name for name in shown if not displayed(browser, name)}, "every asset of the desk is there")
    wait_for(lambda: text(browser).count("Materialized") >= len(LITIGATION) - 1, "they say when they were materialized")
    assert "Failed" not in text(browser)
    assert_nothing_in_front(browser)
    keep(browser, screenshots, "litigation_desk.png")


def test_an_analyst_sees_what_is_late_and_what_is_unusual(browser: Chrome, ui: str, screenshots: Path | None) -> None:
    open_page(browser, f"{ui}/assets/litigation/late_tasks", height=1300)
    wait_for(lambda: "by_tenant" in text(browser), "the metadata is shown")
    assert_nothing_in_front(browser)
    click(browser, "[Show Markdown]")
    wait_for(lambda: displayed(browser, "Italy"), "what is late is shown by tenant")
    keep(browser, screenshots, "late_tasks.png")
    open_page(browser, f"{ui}/assets/litigation/anomalies", height=1400)
    wait_for(lambda: "newest_anomalies" in text(browser), "the metadata is shown")
    click(browser, "[Show Markdown]")
    wait_for(lambda: displayed(browser, "usual"), "the newest unusual days are shown")
    await_shown(browser, "day", "tenant", "metric", "value", "expected")
    keep(browser, screenshots, "litigation_anomalies.png")


def test_what_runs_by_itself_is_shown_and_on(browser: Chrome, ui: str, screenshots: Path | None) -> None:
    open_page(browser, f"{ui}/automation", height=1240)
    wait_for(lambda: "refresh_health_scores" in text(browser), "the schedules are shown")
    await_shown(browser, *SCHEDULES, *SENSORS)
    wait_for(lambda: "02:00 AM" in text(browser), "hours are shown as people say them")
    wait_for(
        lambda: (
            [
                switch.is_selected()
                for switch in browser.find_elements(By.CSS_SELECTOR, "label[class*=formatSwitch] input[type=checkbox]")
            ]
            == [True] * len(SCHEDULES + SENSORS)
        ),
        "each has a switch, which is on",
    )
    assert_nothing_in_front(browser)
    keep(browser, screenshots, "automation.png")


def test_an_analyst_sees_who_holds_which_lock(browser: Chrome, ui: str, screenshots: Path | None) -> None:
    def shown() -> bool:
        open_page(browser, f"{ui}/assets/platform/job_leases", height=1300)
        wait_for(lambda: "The lock of each job" in text(browser), "the asset is shown")
        return "refresh_health_scores" in text(browser)

    wait_for(shown, "the sensor has shown the locks")
    await_shown(browser, "job", "held by run", "since", "until")
    assert_nothing_in_front(browser)
    keep(browser, screenshots, "job_leases.png")


def test_notifications_are_delivered_without_any_set_up(browser: Chrome, ui: str) -> None:
    def delivered() -> bool:
        open_page(browser, f"{ui}/assets/notifications/deliveries", height=1300)
        wait_for(lambda: "The outbox" in text(browser), "the asset is shown")
        return "email_sent" in text(browser)

    wait_for(delivered, "the sensor has started a delivery, and it has sent")


def test_a_year_of_days_is_backfilled_in_one_run_and_drawn(browser: Chrome, ui: str, screenshots: Path | None) -> None:
    days = "[2019-01-01...2019-12-31]"
    open_page(browser, f"{ui}/assets/dossiers/daily_snapshots?view=partitions")
    click(browser, "Materialize\u2026")
    # The dialog begins with the last 90 days, in which the sample has none.
    click(browser, "Show all partitions")

    def written() -> bool:
        fields = browser.find_elements(By.CSS_SELECTOR, "[role=dialog] input[type=text]")
        if fields:
            fields[0].send_keys(Keys.CONTROL, "a")
            fields[0].send_keys(days, Keys.ENTER)
        return bool(fields)

    wait_for(written, "the days are written into their field")
    wait_for(lambda: "365 partitions" in text(browser), "the year is chosen")
    keep(browser, screenshots, "backfill.png")
    click(browser, "Launch backfill")

    def green() -> bool:
        open_page(browser, f"{ui}/assets/dossiers/daily_snapshots?view=partitions&partitions={quote(days)}")
        wait_for(lambda: "Materialized (" in text(browser), "the partitions are shown")
        return "Materialized (365)" in text(browser)

    wait_for(green, "every day of the year is materialized")
    assert "Failed (0)" in text(browser)
    assert_nothing_in_front(browser)
    keep(browser, screenshots, "daily_snapshots.png")
    open_page(browser, f"{ui}/assets/dossiers/health_trend_by_group", height=1400)
    wait_for(lambda: "2019-01 to 2019-12" in text(browser), "the course is described")
    wait_for(lambda: drawn(browser, "img[src^='data:image/svg']"), "the course is drawn")
    keep(browser, screenshots, "health_trend.png")
    click(browser, "[Show Markdown]", place=-1)
    wait_for(lambda: displayed(browser, "what happened"), "the biggest movers are shown")
    wait_for(lambda: drawn(browser, "[role=dialog] td img[src^='data:image/svg']") == 12, "twelve of them are drawn")
    wait_for(
        lambda: opacity(browser, browser.find_element(By.CSS_SELECTOR, "[role=dialog]")) == 1, "the dialog has come up"
    )
    keep(browser, screenshots, "biggest_movers.png")
