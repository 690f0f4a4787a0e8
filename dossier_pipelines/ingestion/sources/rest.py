"""A PostgREST or Supabase-style REST API: one path per entity, read page by page with limit and offset.

A page that is throttled (429), fails (5xx) or breaks off is asked for again; other refusals are final. A short
page is not the end, since servers cap the page size: an empty one is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import stamina

from dossier_pipelines.ingestion.entity import Entity
from dossier_pipelines.ingestion.mapping import EntityMapping
from dossier_pipelines.ingestion.sources.files import quote_lines
from dossier_pipelines.ingestion.sources.source import Rows, Source
from dossier_pipelines.ingestion.staged import StagedColumns
from dossier_pipelines.shared.failures import SourceError

PAGE_ROWS: Final = 1_000
TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
ATTEMPTS: Final = 6
LONGEST_RETRY_AFTER_SECONDS: Final = 120.0


class _TryAgainError(Exception):
    """A failure that another try may mend; ``wait`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def _next_wait(error: Exception) -> bool | float:
    """Tell stamina to retry, after the server's own Retry-After where it gave one."""
    if isinstance(error, _TryAgainError):
        return True if error.wait is None else error.wait
    return False


class RestSource(Source):
    """An API whose base URL is ``url``; the key goes into the apikey and Authorization headers."""

    def __init__(
        self, url: str, *, api_key: str | None, page_rows: int = PAGE_ROWS, longest_wait: float = 30.0
    ) -> None:
        """Prepare to read; nothing is asked yet. ``longest_wait`` bounds the back-off between two tries."""
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise SourceError(f"The source URL cannot be used: {error}. Write it like https://host/rest/v1/.") from None
        if not self._url.host or self._url.query:
            raise SourceError(
                "The source URL needs a host and no query. Write it like https://host/rest/v1/, and put the key into "
                "DOSSIER_SOURCE_API_KEY."
            )
        self.description = str(self._url.copy_with(userinfo=b"", fragment=None))
        self._headers = {"Accept": "application/json"}
        if api_key and (key := api_key.strip()):
            # The HTTP library would name the key in its complaint.
            if not (key.isascii() and key.isprintable()):
                raise SourceError("DOSSIER_SOURCE_API_KEY holds a character that an HTTP header cannot hold.")
            self._headers |= {"apikey": key, "Authorization": f"Bearer {key}"}
        self._page_rows = page_rows
        self._longest_wait = longest_wait

    @contextmanager
    def open(self, entity: Entity, mapping: EntityMapping) -> Iterator[Rows | None]:
        """Open the entity's path; the first page is asked for here, so that a wrong path fails at once."""
        path = mapping.source or entity.name
        order = ",".join(f"{column}.asc" for column in mapping.source_columns("id"))

        with httpx.Client(base_url=self._url, headers=self._headers, timeout=TIMEOUT) as client:

            def page(offset: int) -> list[Any] | None:
                return self._page(client, path, {"limit": self._page_rows, "offset": offset, "order": order})

            first = page(0)
            if first is not None:
                yield PagedRows(path, first, page)
            elif entity.optional and mapping.source is None:
                yield None
            else:
                raise SourceError(
                    f"{self.description}: there is no {path} for {entity.name} (404). "
                    "Name the right path in a mapping file."
                )

    def _page(self, client: httpx.Client, path: str, query: dict[str, str | int]) -> list[Any] | None:
        place = f"{self.description} {path}"
        try:
            for attempt in stamina.retry_context(
                on=_next_wait, attempts=ATTEMPTS, timeout=600, wait_initial=0.2, wait_max=self._longest_wait
            ):
                with attempt:
                    return self._ask(client, place, path, query)
        except _TryAgainError as error:
            raise SourceError(
                f"{place}: {error}, in {ATTEMPTS} tries. Nothing of it was loaded; run again when the server is well."
            ) from error
        raise AssertionError("retry_context returns or raises")

    def _ask(self, client: httpx.Client, place: str, path: str, query: dict[str, str | int]) -> list[Any] | None:
        try:
            response = client.get(path, params=query)
        except httpx.TransportError as error:
            raise _TryAgainError(f"the connection failed ({type(error).__name__}: {error})") from error
        except httpx.HTTPError as error:
            raise SourceError(f"{place}: the answer cannot be read ({error}).") from error
        status = response.status_code
        if status == 429 or status == 408 or status >= 500:
            raise _TryAgainError(f"the server answered {status}", _retry_after(response))
        if status == 404:
            return None
        if status in {401, 403}:
            raise SourceError(f"{place}: the server refused the key ({status}). Set DOSSIER_SOURCE_API_KEY.")
        if status != 200 and status != 206:
            raise SourceError(f"{place}: the server answered {status}. Check the URL and the mapping.")
        kind = response.headers.get("content-type", "").partition(";")[0].strip() or "nothing"
        try:
            rows = json.loads(response.content)
        except ValueError as error:
            raise SourceError(
                f"{place}: the server sent {kind} where JSON was expected. Check the base URL; a login page or a proxy "
                "may be answering."
            ) from error
        if not isinstance(rows, list):
            raise SourceError(f"{place}: the server sent a JSON {type(rows).__name__}, not a list of records.")
        return rows


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that Retry-After asks for, in either of its two forms."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal():
        seconds = float(value)
    else:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.fromtimestamp(time.time(), UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


class PagedRows(Rows):
    """The rows of one path, a page at a time."""

    def __init__(self, path: str, first: list[Any], page: Callable[[int], list[Any] | None]) -> None:
        """Take the first page, and how to ask for the page at an offset."""
        super().__init__()
        self.label = path
        self.staged = StagedColumns(header=None)
        self._first = first
        self._page = page

    def blocks(self) -> Iterator[bytes]:
        """Yield one block a page."""
        rows: list[Any] | None = self._first
        while rows:
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
            self.count += len(rows)
            yield quote_lines(lines.encode("utf-8", "replace"))
            before, rows = rows, self._page(self.count)
            if rows is None:
                raise SourceError(
                    f"{self.label}: after {self.count} rows the server no longer has it (404). Nothing of it was "
                    "loaded; run again when the server is well."
                )
            if rows == before:
                raise SourceError(
                    f"{self.label}: the server gives the same page again at offset {self.count}. It must understand "
                    "limit and offset, as PostgREST does."
                )
