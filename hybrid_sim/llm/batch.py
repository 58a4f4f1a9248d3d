"""Questions sent through OpenAI's Batch API: requests in a file, carried out within a day at a lower price.

Many compatible endpoints offer the same. A submission survives the death of this process and of the connection: its tag
is stored before it is submitted and its id after, so that the next run finds the batch again instead of paying twice.
Requests are named by a key of at most 64 characters, such as `Question.key` gives; results come in any order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import openai
import tenacity
from openai.types import Batch

from hybrid_sim.core.errors import BudgetError, HybridSimError, NetworkError
from hybrid_sim.llm.journal import Journal
from hybrid_sim.llm.outcomes import Fault, Reply, is_quota, read_error, read_outcome, shortened
from hybrid_sim.llm.question import Answer, Question
from hybrid_sim.llm.sending import Finish, Request, Sender
from hybrid_sim.llm.transport import EndpointClient

MAX_ROWS, MAX_BYTES = 50_000, 190_000_000
"""Requests and bytes of one batch file; OpenAI takes 50,000 and 200 MB."""

Bodies = Mapping[str, Mapping[str, Any]]
"""Request bodies by key."""

Deliver = Callable[[str, Reply | Fault], None]
"""Takes the key of a request and its outcome."""

_ENDED = ("completed", "failed", "expired", "cancelled")
_REPEATED = ("again", "retry", "wait", "adapt")
"""Remedies that a second batch may bring."""

_PATH: Final = "/v1/chat/completions"
_TAG = "hybrid_sim"
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Polling:
    """Seconds between two requests for a batch's status; attempts, back-off and timeout of each request."""

    poll: float = 30.0
    attempts: int = 8
    first_wait: float = 1.0
    deadline: float = 600.0


@dataclass(eq=False)
class BatchSender(Sender):
    """Sends many questions at once in batches.

    The worst-case cost of a whole batch is reserved before it is submitted, and questions beyond the budget are not
    asked. What brought no answer is sent once more, in a second batch, and in further ones while the dialect is
    negotiated. A batch goes on when the run is stopped or interrupted, and the next run waits for it.
    """

    polling: Polling

    def interrupt(self) -> None:
        """Wait no longer."""
        _log.warning("interrupted: the batch goes on, and the same command takes it up again")
        self.cancel()

    async def _send(self, questions: Mapping[str, Question], finish: Finish) -> None:
        limits = {key: self._dialect.limit(question.max_tokens) for key, question in questions.items()}
        faults = await self._send_batch(questions, limits, finish)
        if faults and not self._n_answers and all(fault.remedy == "again" for fault in faults.values()):
            self._count_useless(next(iter(faults.values())), len(faults))
        is_first = True
        while faults and self.stopped is None and (is_first or any(f.remedy == "adapt" for f in faults.values())):
            _log.info("%d of %d questions are asked again in another batch", len(faults), len(questions))
            is_first = False
            self.counts.asked_again += len(faults)
            limits = {key: self._next_limit(limits[key], fault) for key, fault in faults.items()}
            faults = await self._send_batch({key: questions[key] for key in faults}, limits, finish)
        for key, fault in faults.items():
            finish(key, fault)

    async def _send_batch(
        self, questions: Mapping[str, Question], limits: Mapping[str, int], finish: Finish
    ) -> dict[str, Fault]:
        """Send what the budget allows; the faults that a second batch may cure, everything else is finished."""
        requests = self._begin_all(questions, limits)
        bodies = {key: self._dialect.body(request.question, request.max_tokens) for key, request in requests.items()}
        faults: dict[str, Fault] = {}
        unsent = [key for key in questions if key not in requests]

        def deliver(key: str, reply: Reply | Fault) -> None:
            outcome = self._checked(requests[key].question, reply)
            self._commit(requests[key], outcome)
            del requests[key]
            if isinstance(outcome, Fault):
                outcome = self._apply(outcome, bodies[key])
            if isinstance(outcome, Fault) and outcome.remedy in _REPEATED:
                faults[key] = outcome
            else:
                self._n_answers += isinstance(outcome, Answer)
                finish(key, outcome)

        try:
            await run_batch(self.client, bodies, self.journal, deliver, self.polling)
        except HybridSimError as error:
            self.stop(error)
        finally:
            self._settle_unsubmitted(requests)
        for key in (*unsent, *requests):
            finish(key, self._not_asked())
        return faults

    def _begin_all(self, questions: Mapping[str, Question], limits: Mapping[str, int]) -> dict[str, Request]:
        """Begin as many questions as the budget allows; those that are in a batch already come first."""
        requests: dict[str, Request] = {}
        if self.stopped is not None:
            return requests
        try:
            submitted = OpenBatches(self.journal).keys()
            for key in sorted(questions, key=lambda key: key not in submitted):
                question, limit = questions[key], limits[key]
                attempt = self.journal.resume(key) if key in submitted else None
                if attempt is not None:
                    requests[key] = Request(question, limit, attempt[0], self.budget.adopt(attempt[1]))
                else:
                    reservation = self.budget.reserve(self._worst_cost(question, limit))
                    requests[key] = self._begin(key, question, limit, reservation)
        except HybridSimError as error:
            self.stop(error)
        return requests

    def _settle_unsubmitted(self, requests: Mapping[str, Request]) -> None:
        """Commit that requests were never submitted; those in an open batch stay open."""
        try:
            submitted = OpenBatches(self.journal).keys() if requests else set()
            for key, request in requests.items():
                if key not in submitted:
                    self._commit(request, Fault("skip", "the batch was not submitted", "not_asked"))
        except HybridSimError as error:
            self.stop(error)


@dataclass(frozen=True)
class OpenBatch:
    """A batch whose results have not all been delivered; without `id` it may or may not have been submitted."""

    tag: str
    id: str | None
    keys: Sequence[str]


class OpenBatches:
    """The open batches of a run, notes in its journal: `batches` lists their tags, `batch:<tag>` holds id and keys."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def read(self) -> list[OpenBatch]:
        """All open batches, oldest first; damaged notes are left out with a warning."""
        notes = {tag: self._journal.note(f"batch:{tag}") for tag in self._tags()}
        n_damaged = sum(note is None for note in notes.values())
        if n_damaged:
            _log.warning("the notes of %d open batches are damaged; their questions are asked again", n_damaged)
        return [OpenBatch(tag, **json.loads(note)) for tag, note in notes.items() if note is not None]

    def keys(self) -> set[str]:
        """The keys of all requests that were submitted, or may have been, and whose results are not delivered."""
        return {key for batch in self.read() for key in batch.keys}

    def write(self, batch: OpenBatch) -> OpenBatch:
        """Commit a batch, new or changed."""
        self._journal.write_note(f"batch:{batch.tag}", json.dumps({"id": batch.id, "keys": list(batch.keys)}))
        tags = self._tags()
        if batch.tag not in tags:
            self._journal.write_note("batches", json.dumps([*tags, batch.tag]))
        return batch

    def remove(self, batch: OpenBatch, delivered: Collection[str]) -> None:
        """Keep a batch only as long as there are results in it that have not been delivered."""
        gone = set(delivered)
        left = [key for key in batch.keys if key not in gone]
        if left:
            self.write(replace(batch, keys=left))
        else:
            self._journal.write_note("batches", json.dumps([tag for tag in self._tags() if tag != batch.tag]))
            self._journal.write_note(f"batch:{batch.tag}", "")

    def _tags(self) -> list[str]:
        tags: list[str] = json.loads(self._journal.note("batches") or "[]")
        return tags


async def run_batch(
    client: EndpointClient,
    bodies: Bodies,
    journal: Journal,
    deliver: Deliver,
    polling: Polling = Polling(),
    *,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Have all requests carried out, and `deliver` the outcome of each by its key, once, as they come.

    A request that was not carried out, because its batch expired or its result is missing, is a fault to retry; it
    costs nothing. Requests that an earlier process of the run had submitted are not submitted again; its batches are
    waited for. A batch survives this process: when the wait is cancelled, the next run continues it.

    Raises:
        NetworkError: the endpoint is unreachable, knows no batches, or refuses this one.
        BudgetError: the provider's quota or credit is used up.
        StorageError: a note cannot be written.
    """
    batches, api = OpenBatches(journal), _BatchApi(client, polling)
    waiting = [batch for batch in batches.read() if not bodies.keys().isdisjoint(batch.keys)]
    submitted = {key for batch in waiting for key in batch.keys}
    for part in _parts({key: body for key, body in bodies.items() if key not in submitted}, max_rows, max_bytes):
        waiting.append(batches.write(OpenBatch(secrets.token_hex(16), None, list(part))))
        waiting[-1] = batches.write(replace(waiting[-1], id=await api.submit(waiting[-1].tag, part)))
    for batch in waiting:
        if batch.id is None:  # The process that began it died before it noted an id.
            again = {key: bodies[key] for key in batch.keys if key in bodies}
            batch_id = await api.find(batch.tag) or await api.submit(batch.tag, again)
            batch = batches.write(replace(batch, keys=list(again), id=batch_id))
        await _collect(api, batches, batch, [key for key in batch.keys if key in bodies], deliver)


async def _collect(
    api: _BatchApi, batches: OpenBatches, open_batch: OpenBatch, due: Sequence[str], deliver: Deliver
) -> None:
    """Wait for a batch, deliver the results that are due, and only then remove it."""
    batch = await api.ended(str(open_batch.id))
    if batch.status == "failed":
        batches.remove(open_batch, open_batch.keys)
        raise api.refusal(batch)
    missing = dict.fromkeys(due)
    async for key, outcome in api.results(batch):
        if key in missing:
            del missing[key]
            deliver(key, outcome)
    reason = "the batch gave no result for it" if batch.status == "completed" else f"the batch is {batch.status}"
    for key in missing:
        deliver(key, Fault("retry", reason))
    batches.remove(open_batch, due)


class _BatchApi:
    """The Batch API of an endpoint; every request has a timeout and is retried while its fault may be transient."""

    def __init__(self, client: EndpointClient, polling: Polling) -> None:
        self._openai, self._endpoint, self._polling = client.openai, client.endpoint, polling

    async def submit(self, tag: str, bodies: Bodies) -> str:
        """Upload the requests as a file and submit it; the id of the batch."""
        content = b"".join(_line(key, body) for key, body in bodies.items())
        upload = partial(self._openai.files.create, file=("requests.jsonl", content), purpose="batch")
        file = await self._retried(upload)
        n_tries = 0

        async def create() -> str:
            nonlocal n_tries
            n_tries += 1
            existing = await self._listed(tag) if n_tries > 1 else None  # The attempt before may have succeeded.
            if existing is not None:
                return existing
            batch = await self._openai.batches.create(
                input_file_id=file.id, endpoint=_PATH, completion_window="24h", metadata={_TAG: tag}
            )
            return batch.id

        batch_id = await self._retried(create)
        _log.info("batch %s of %d requests submitted; it may take up to a day", shortened(batch_id), len(bodies))
        return batch_id

    async def find(self, tag: str) -> str | None:
        """The id of the batch with this tag; None where there is none."""
        return await self._retried(partial(self._listed, tag))

    async def ended(self, batch_id: str) -> Batch:
        """The batch, once it has ended in whatever way."""
        while True:
            batch = await self._retried(lambda: self._openai.batches.retrieve(batch_id))
            if batch.status in _ENDED:
                return batch
            await asyncio.sleep(self._polling.poll)

    def refusal(self, batch: Batch) -> HybridSimError:
        """Why a batch failed before any of its requests was carried out."""
        errors = (batch.errors.data if batch.errors else None) or []
        messages = "; ".join(error.message or error.code or "" for error in errors[:3])
        message = shortened(self._endpoint.without_key(messages)) or "no reason given"
        reason = f"batch {shortened(batch.id)} was refused: {message}"
        if any(is_quota(error.code or "") for error in errors):
            return BudgetError(f"{reason}; raise the quota, then run the same command again")
        return NetworkError(f"{reason}; nothing of it was paid, run the same command again")

    async def results(self, batch: Batch) -> AsyncIterator[tuple[str, Reply | Fault]]:
        """Key and outcome of each request, in the order of the files; lines that are no results are left out."""
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            reply = await self._retried(partial(self._openai.files.content, file_id))
            for line in reply.content.decode("utf-8", "replace").split("\n"):
                result = self._read_line(line) if line.strip() else None
                if result is not None:
                    yield result

    def _read_line(self, line: str) -> tuple[str, Reply | Fault] | None:
        try:
            row = json.loads(line)
            key, response = str(row["custom_id"]), row.get("response")
            if isinstance(response, dict):
                body = json.dumps(response["body"]).encode()
                clean = self._endpoint.without_key
                return key, read_outcome(int(response["status_code"]), {}, body, self._endpoint.address, clean)
            error = row.get("error")
            reason = error.get("message") if isinstance(error, dict) else None
            reason = self._endpoint.without_key(reason) if isinstance(reason, str) else "it was not carried out"
            return key, Fault("retry", shortened(reason))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            start = shortened(self._endpoint.without_key(line[:5000]))
            _log.warning("a line of a batch's results is no result: %s", start)
            return None

    async def _listed(self, tag: str) -> str | None:
        async for batch in self._openai.batches.list(limit=100):
            if (batch.metadata or {}).get(_TAG) == tag:
                return batch.id
        return None

    async def _retried(self, work: Callable[[], Awaitable[T]]) -> T:
        polling = self._polling
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._is_transient),
            stop=tenacity.stop_after_attempt(polling.attempts),
            wait=tenacity.wait_random_exponential(multiplier=polling.first_wait, max=60.0),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    async with asyncio.timeout(polling.deadline):
                        result = await work()
            return result
        except openai.APIStatusError as error:  # It holds the request, and with it the key.
            fault = self._fault(error)
            missing = NetworkError(f"{fault.message}; ask without batches where the endpoint has none")
            failed = missing if error.status_code == 404 else fault.error or NetworkError(fault.message)
        except (openai.OpenAIError, TimeoutError, json.JSONDecodeError) as error:
            reason = f"cannot be reached after {polling.attempts} attempts ({type(error).__name__})"
            failed = NetworkError(f"{self._endpoint.address} {reason}; the run goes on with the same command")
        raise failed

    def _is_transient(self, error: BaseException) -> bool:
        if isinstance(error, openai.APIStatusError):
            return self._fault(error).remedy in ("retry", "wait")
        return isinstance(error, openai.APIConnectionError | TimeoutError | json.JSONDecodeError)

    def _fault(self, error: openai.APIStatusError) -> Fault:
        content = error.body if isinstance(error.body, dict) else {}
        message = self._endpoint.without_key(str(content.get("message") or error.message))
        return read_error(error.status_code, {**content, "message": message}, self._endpoint.address)


def _parts(bodies: Bodies, max_rows: int, max_bytes: int) -> Iterator[dict[str, Mapping[str, Any]]]:
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
    row = {"custom_id": key, "method": "POST", "url": _PATH, "body": body}
    return json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n"
