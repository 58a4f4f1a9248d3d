"""The files and batches of the loopback language model: OpenAI's Batch API, as far as a client can tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from llm_faults import STATUSES

Body = dict[str, Any]
Result = Callable[[int, Body, str | None], tuple[int, Mapping[str, str], bytes, str | None, str | None]]


class Batches:
    """Files that were sent, and batches that are worked on a little with every look at them.

    To be set by a test: `polls` looks until a batch is finished, `end` how it then ends, `done_share` the share of rows
    that is done when it ends otherwise than completed, `row_faults` what befalls a row (its number from 1, its body),
    `refusal` a message, and `refusal_code`, with which every new batch fails, `shuffled` rows that come back in
    another order; `on_look` is called at every look at a batch.
    """

    def __init__(self, result: Result) -> None:
        self._result = result
        self.polls = 2
        self.end = "completed"
        self.done_share = 1.0
        self.row_faults: Callable[[int, Body], str | None] | None = None
        self.refusal: str | None = None
        self.refusal_code = "token_limit_exceeded"
        self.shuffled = True
        self.on_look: Callable[[], None] = lambda: None
        self.troubles: dict[str, list[str]] = {}
        self.spoil_output: Callable[[bytes], bytes] = bytes
        self.files: dict[str, bytes] = {}
        self.uploads: list[bytes] = []
        self.batches: dict[str, Body] = {}
        self._looks: dict[str, int] = {}

    @property
    def n_rows(self) -> int:
        """Requests in all batches that were ever made: what would be paid."""
        return sum(batch["request_counts"]["total"] for batch in self.batches.values())

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer a request for `/v1/files...` or `/v1/batches...`."""
        waiting = self.troubles.get(f"{request.method} {path}")
        trouble = waiting.pop(0) if waiting else None
        if trouble in STATUSES:
            status = STATUSES[trouble]
            return web.Response(status=status.status, body=status.content(), content_type="application/json")
        response = await self._worked_on(request, path)
        if trouble == "drop_after_work" and request.transport is not None:
            request.transport.abort()
        return response

    async def _worked_on(self, request: web.BaseRequest, path: str) -> web.Response:
        _, _, kind, *rest = path.split("/")
        if kind == "files":
            return await self._file(request, rest)
        if not rest and request.method == "POST":
            return web.json_response(self._create(await request.json()))
        if not rest:
            newest = list(reversed(self.batches.values()))
            return web.json_response({"object": "list", "data": newest, "has_more": False})
        if rest[0] not in self.batches:
            return _missing(rest[0])
        if rest[1:] == ["cancel"]:
            self.end, self._looks[rest[0]] = "cancelled", self.polls
        return web.json_response(self._looked_at(rest[0]))

    async def _file(self, request: web.BaseRequest, rest: list[str]) -> web.Response:
        if not rest:
            self.uploads.append(await _sent_file(request))
            name = f"file-{len(self.uploads)}"
            self.files[name] = self.uploads[-1]
            return web.json_response(self._described(name))
        if rest[0] not in self.files:
            return _missing(rest[0])
        if request.method == "DELETE":
            del self.files[rest[0]]
            return web.json_response({"id": rest[0], "object": "file", "deleted": True})
        if rest[1:] == ["content"]:
            return web.Response(body=self.files[rest[0]], content_type="application/octet-stream")
        return web.json_response(self._described(rest[0]))

    def _described(self, name: str) -> Body:
        return {
            "id": name, "object": "file", "bytes": len(self.files[name]), "created_at": int(time.time()),
            "filename": "batch.jsonl", "purpose": "batch", "status": "processed",
        }  # fmt: skip

    def _create(self, wanted: Body) -> Body:
        rows = self.files[wanted["input_file_id"]].splitlines()
        name = f"batch_{len(self.batches) + 1}"
        batch: Body = {
            "id": name, "object": "batch", "endpoint": wanted["endpoint"], "input_file_id": wanted["input_file_id"],
            "completion_window": wanted["completion_window"], "created_at": int(time.time()), "status": "validating",
            "metadata": wanted.get("metadata"), "output_file_id": None, "error_file_id": None, "errors": None,
            "request_counts": {"total": len(rows), "completed": 0, "failed": 0},
        }  # fmt: skip
        self.batches[name], self._looks[name] = batch, 0
        return batch

    def _looked_at(self, name: str) -> Body:
        batch = self.batches[name]
        if batch["status"] not in ("validating", "in_progress"):
            return batch
        self._looks[name] += 1
        self.on_look()
        if self.refusal is not None:
            data = [{"code": self.refusal_code, "message": self.refusal, "line": None, "param": None}]
            batch.update(status="failed", errors={"object": "list", "data": data})
        elif self._looks[name] <= self.polls:
            batch["status"] = "in_progress"
        else:
            self._finish(batch)
        return batch

    def _finish(self, batch: Body) -> None:
        rows = [json.loads(row) for row in self.files[batch["input_file_id"]].splitlines()]
        n_done = len(rows) if self.end == "completed" else int(self.done_share * len(rows))
        good: list[Body] = []
        bad: list[Body] = []
        for number, row in enumerate(rows[:n_done], 1):
            fault = self.row_faults(number, row["body"]) if self.row_faults else None
            status, _, content, _, _ = self._result(number, row["body"], fault)
            response = {"status_code": status, "request_id": f"req_{number}", "body": json.loads(content)}
            line = {"id": f"batch_req_{number}", "custom_id": row["custom_id"], "response": response, "error": None}
            (good if status == 200 else bad).append(line)
        error = {"code": f"batch_{self.end}", "message": "This request could not be executed before the batch ended."}
        for number, row in enumerate(rows[n_done:], n_done + 1):
            line = {"id": f"batch_req_{number}", "custom_id": row["custom_id"], "response": None, "error": error}
            bad.append(line)
        for key, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                batch[key] = f"{batch['id']}_{key.removesuffix('_file_id')}"
                ordered = reversed(lines) if self.shuffled else lines
                content = "".join(json.dumps(line) + "\n" for line in ordered).encode()
                self.files[batch[key]] = self.spoil_output(content)
        batch["status"] = self.end
        batch["request_counts"].update(completed=len(good), failed=len(bad))


async def _sent_file(request: web.BaseRequest) -> bytes:
    reader = await request.multipart()
    content = b""
    async for part in reader:
        if part.name == "file":  # type: ignore[union-attr]  # a nested multipart does not occur here
            content = bytes(await part.read())  # type: ignore[union-attr]
    return content


def _missing(name: str) -> web.Response:
    error = {"message": f"No such object: {name}", "type": "invalid_request_error", "param": "id", "code": None}
    return web.json_response({"error": error}, status=404)
