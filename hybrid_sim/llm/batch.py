"""OpenAI's Batch API: the same requests for half the price, answered within a day.

A batch is noted in the run's journal before it is submitted and again, with its number, before it is waited for. A run
that was killed in between finds it again, by the note or by a mark that the batch carries, and pays for nothing twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import openai
import tenacity
from openai.types import Batch

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError
from hybrid_sim.core.files import printable
from hybrid_sim.llm.open_batches import Book, Notes, OpenBatch

MAX_ROWS, MAX_BYTES = 50_000, 190_000_000
"""Requests and bytes of one batch file; OpenAI takes 50,000 and 200 MB."""

_ENDED = ("completed", "failed", "expired", "cancelled")
_MARK = "hybrid_sim"
_PASSING = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError, openai.ConflictError)
_SHORTEST_SECRET = 8
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class BatchRow:
    """What came of one request: `body` is the completion where `status` is 200, else the server's error object.

    `status` is 0 where the request was never carried out, because the batch had expired or was cancelled, or where the
    server lost it; `message` then says so. Such a row costs nothing.
    """

    key: str
    status: int
    body: Mapping[str, Any]
    message: str = ""


@dataclass(frozen=True)
class Patience:
    """Seconds between two looks at a batch, attempts at each look, and seconds that one attempt may take."""

    poll: float = 30.0
    attempts: int = 8
    first_wait: float = 1.0
    deadline: float = 600.0


async def run_batch(
    client: openai.AsyncOpenAI,
    bodies: Mapping[str, Mapping[str, Any]],
    notes: Notes,
    deliver: Callable[[BatchRow], None],
    patience: Patience = Patience(),
    *,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Have all requests carried out and `deliver` what came of each, once, in the order in which it comes.

    `bodies` holds the requests by keys of at most 64 characters. Those that an earlier process of the run had submitted
    are not sent again; its batches are waited for. `client` must not retry by itself. A batch outlives this process:
    when the wait is cancelled, the next run takes it up.

    Raises:
        NetworkError: the endpoint is unreachable, knows no batches, or refuses this one.
        BudgetError: the provider's quota or credit is used up.
        StorageError: a note cannot be written.
    """
    book = Book(notes)
    desk = _Desk(client, patience)
    waiting = [open_ for open_ in book.open() if not bodies.keys().isdisjoint(open_.keys)]
    submitted = {key for open_ in waiting for key in open_.keys}
    for part in _parts({key: body for key, body in bodies.items() if key not in submitted}, max_rows, max_bytes):
        waiting.append(book.begin(part.keys()))
        waiting[-1] = book.number(waiting[-1], await desk.submit(waiting[-1].tag, part))
    for open_ in waiting:
        if open_.id is None:
            again = {key: bodies[key] for key in open_.keys if key in bodies}
            number = await desk.find(open_.tag) or await desk.submit(open_.tag, again)
            open_ = book.number(replace(open_, keys=list(again)), number)
        await _wait_for(desk, book, open_, bodies.keys(), deliver)


async def _wait_for(
    desk: _Desk, book: Book, open_: OpenBatch, wanted: Collection[str], deliver: Callable[[BatchRow], None]
) -> None:
    """Wait for a batch, deliver its rows, and only then forget it."""
    batch = await desk.ended(str(open_.id))
    if batch.status == "failed":
        book.forget(open_, open_.keys)
        raise desk.refused(batch)
    due = [key for key in open_.keys if key in wanted]
    missing = set(due)
    async for row in desk.rows(batch):
        if row.key in missing:
            missing.discard(row.key)
            deliver(row)
    lost = "the batch gave no result for it" if batch.status == "completed" else f"the batch is {batch.status}"
    for key in due:
        if key in missing:
            deliver(BatchRow(key, 0, {}, lost))
    book.forget(open_, due)


class _Desk:
    """The endpoint's counter: every request to it has a deadline, is tried again while a fault may pass, and may fail
    in our own words only."""

    def __init__(self, client: openai.AsyncOpenAI, patience: Patience) -> None:
        self._client, self._patience = client, patience

    async def submit(self, tag: str, bodies: Mapping[str, Mapping[str, Any]]) -> str:
        """Send the requests in a file and have them carried out; the number of the batch."""
        content = b"".join(_line(key, body) for key, body in bodies.items())
        upload = self._client.files.create
        file = await self._patiently(lambda: upload(file=("requests.jsonl", content), purpose="batch"))
        tries = 0

        async def create() -> str:
            nonlocal tries
            tries += 1
            found = await self._listed(tag) if tries > 1 else None  # The attempt before may have done its work.
            if found is not None:
                return found
            batch = await self._client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={_MARK: tag}
            )
            return batch.id

        number = await self._patiently(create)
        _log.info("batch %s of %d requests submitted; it may take up to a day", printable(number), len(bodies))
        return number

    async def find(self, tag: str) -> str | None:
        """The number of the batch that carries this tag; None where there is none."""
        return await self._patiently(lambda: self._listed(tag))

    async def ended(self, batch_id: str) -> Batch:
        """The batch, as soon as it has ended in whatever way."""
        while True:
            batch = await self._patiently(lambda: self._client.batches.retrieve(batch_id))
            if batch.status in _ENDED:
                return batch
            await asyncio.sleep(self._patience.poll)

    def refused(self, batch: Batch) -> HybridSimError:
        """Why a batch failed before any of its requests was carried out."""
        errors = (batch.errors.data if batch.errors else None) or []
        words = "; ".join(error.message or error.code or "" for error in errors[:3])
        said = printable(self._without_key(words))[:300] or "no reason given"
        if any(error.code in _QUOTA for error in errors):
            return BudgetError(
                f"batch {batch.id} was refused: {said}; raise the quota, then run the same command again"
            )
        return NetworkError(f"batch {batch.id} was refused: {said}; nothing of it was paid, run the same command again")

    async def rows(self, batch: Batch) -> AsyncIterator[BatchRow]:
        """What came of each request, in the order of the files; lines that are no results are left out."""
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is None:
                continue
            for line in await self._patiently(partial(self._lines, file_id)):
                row = _read_line(line) if line.strip() else None
                if row is not None:
                    yield row

    async def _lines(self, file_id: str) -> list[str]:
        reply = await self._client.files.content(file_id)
        return self._without_key(reply.content.decode("utf-8", "replace")).split("\n")

    def _without_key(self, text: str) -> str:
        """What a server says, without the key, which some repeat in their errors."""
        key = self._client.api_key
        return text.replace(key, "[key]") if len(key) >= _SHORTEST_SECRET else text

    async def _listed(self, tag: str) -> str | None:
        async for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get(_MARK) == tag:
                return batch.id
        return None

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        patience = self._patience
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_passes),
            stop=tenacity.stop_after_attempt(patience.attempts),
            wait=tenacity.wait_random_exponential(multiplier=patience.first_wait, max=60.0),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    async with asyncio.timeout(patience.deadline):
                        result = await work()
            return result
        except openai.APIStatusError as error:
            raise self._named(error) from None  # The error holds the request, and with it the key.
        except (openai.OpenAIError, TimeoutError, json.JSONDecodeError) as error:
            said = f"cannot be reached after {patience.attempts} attempts ({type(error).__name__})"
            raise NetworkError(f"{self._address} {said}; the run goes on with the same command") from None

    def _named(self, error: openai.APIStatusError) -> HybridSimError:
        said = self._without_key(_said({"error": error.body})) or f"status {error.status_code}"
        if error.code in _QUOTA or error.status_code == 402:
            return BudgetError(f"{self._address}: {said}; raise the quota, then run the same command again")
        if error.status_code == 404:
            return NetworkError(f"{self._address}: {said}; ask without batches where the endpoint has none")
        return NetworkError(f"{self._address}: {said}")

    @property
    def _address(self) -> str:
        """The endpoint without user, password and query."""
        url = self._client.base_url
        return f"{url.scheme}://{url.host}{f':{url.port}' if url.port else ''}{url.path.rstrip('/')}"


def _parts(
    bodies: Mapping[str, Mapping[str, Any]], max_rows: int, max_bytes: int
) -> Iterator[dict[str, Mapping[str, Any]]]:
    """The requests in as few files as the limits allow, in their order."""
    part: dict[str, Mapping[str, Any]] = {}
    size = 0
    for key, body in bodies.items():
        length = len(_line(key, body))
        if part and (len(part) == max_rows or size + length > max_bytes):
            yield part
            part, size = {}, 0
        part[key] = body
        size += length
    if part:
        yield part


def _line(key: str, body: Mapping[str, Any]) -> bytes:
    row = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n"


def _read_line(line: str) -> BatchRow | None:
    try:
        row = json.loads(line)
        key, response = row["custom_id"], row.get("response")
        if isinstance(response, dict):
            status, body = int(response["status_code"]), response["body"]
            return BatchRow(str(key), status, body if isinstance(body, dict) else {}, _said(body))
        return BatchRow(str(key), 0, {}, _said({"error": row.get("error")}) or "it was not carried out")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        _log.warning("a line of a batch's results is no result: %s", printable(line[:80]))
        return None


def _said(body: Any) -> str:
    """The server's own words about an error, in one short line; "" where there are none."""
    error = body.get("error") if isinstance(body, dict) else None
    words = error.get("message") if isinstance(error, dict) else None
    return printable(words)[:300] if isinstance(words, str) else ""


def _passes(error: BaseException) -> bool:
    if isinstance(error, openai.RateLimitError):
        return error.code not in _QUOTA
    return isinstance(error, (*_PASSING, TimeoutError, json.JSONDecodeError))
