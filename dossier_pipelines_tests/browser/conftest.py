"""A whole deployment, as `make up` starts it, and a browser in front of it. Once per session: both take their time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from dossier_pipelines_tests.processes import free_port, server_folder, start, wait_until

# Read at once: the tests themselves run without any setting of ours.
SCREENSHOTS = os.environ.get("DOSSIER_SCREENSHOTS")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def program(*names: str) -> str:
    """Return the path of the first program there is; without any, skip, but never where every test must run."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        message = f"{names[0]} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def ui() -> Iterator[str]:
    """The address of the UI, with the sample loaded."""
    program("chromium", "chromium-browser", "google-chrome")
    with server_folder() as folder:
        log, port = folder / "up.log", free_port()
        address = f"http://127.0.0.1:{port}"
        process = start("up", "--port", str(port), "--data-dir", str(folder / "data"), log=log)

        def answers() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            try:
                return httpx.get(f"{address}/server_info").status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_until(answers, "the UI answers")
            yield address
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser that has never been here."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(program("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def screenshots() -> Path | None:
    """The folder for pictures of the pages, or None when nobody wants any."""
    if not SCREENSHOTS:
        return None
    folder = Path(SCREENSHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
