"""Replies through a batch endpoint (OpenAI's Batch API): half the price, hours of waiting.

Batches only fill the journal: afterwards the pool finds the replies there, and asks online for
what no batch could answer. Follow-ups of one round of batches are the next round. What was handed
in is in the journal too, so that a process that dies while a batch is pending loses nothing: the
next one waits for the same batch.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlsplit

from autointerp.errors import UserError
from autointerp.llm.budget import cost_usd, worst_usd
from autointerp.llm.client import ChatClient
from autointerp.llm.dialect import Dialect
from autointerp.llm.errors import (
    CALL_ERRORS,
    UnreadableReply,
    classify,
    classify_status,
    server_message,
)
from autointerp.llm.journal import Journal, Received
from autointerp.llm.logprobs import NO_LOGPROBS
from autointerp.llm.pool import Drained, Job
from autointerp.llm.prices import Price
from autointerp.llm.recall import Recall
from autointerp.llm.reply import CallFailure, read_reply, usage_of
from autointerp.llm.request import PATH, ChatRequest

R = TypeVar("R")

_MOST_REQUESTS = 50_000  # in one file, by the API's rules
_MOST_BYTES = 190_000_000  # of 200 MB
_ROUNDS = 8  # a feature's label is asked for in ever smaller groups, which ends before this
_TRIES = 2  # batches that a request is put into before it is left to be asked online
_FIRST_POLL_S, _LONGEST_POLL_S = 5.0, 60.0
_RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
_LOOKS = 10  # a minute apart, at a batch that cannot be looked at
_KEPT_AT_ONCE = 256
_LISTED = 100  # batches looked through for one that was made just before a crash


@dataclass(frozen=True)
class BatchSettings:
    """`budget_usd` bounds what has been spent, with what is pending at its worst."""

    price: Price | None
    budget_usd: float | None = None
    most_requests: int = _MOST_REQUESTS


class BatchRun:
    """One endpoint's batches for one journal."""

    def __init__(
        self,
        client: ChatClient,
        dialect: Dialect,
        journal: Journal,
        settings: BatchSettings,
        on_event: Callable[[str], None],
        stop: asyncio.Event,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client, self._journal, self._settings = client, journal, settings
        self._recall = Recall(journal, client.base_url, dialect)
        self._on_event, self._stop, self._sleep = on_event, stop, sleep
        self._price = settings.price.in_batches() if settings.price else None
        self._tries: dict[str, int] = {}

    async def fill(self, make_jobs: Callable[[], Iterable[Job[Any]]]) -> None:
        """Batch after batch, until the journal answers all jobs that batches can answer.

        Raises UserError where the endpoint takes no batches, and Drained when asked to stop.
        """
        try:
            await self._adopt_lost()
            await self._collect_pending()
            for _ in range(_ROUNDS):
                with TemporaryDirectory(prefix="autointerp-batch-") as folder:
                    files = await asyncio.to_thread(self._write, make_jobs, Path(folder))
                    if not files:
                        return
                    for file in files:
                        if self._stop.is_set():
                            raise Drained
                        await self._submit(file)
                await self._collect_pending()
        except CALL_ERRORS as error:
            message = classify(error).message
            raise UserError(f"batches at {self._client.base_url}: {message}") from None

    async def _patiently(self, call: Callable[[], Awaitable[R]]) -> R:
        """The outcome of a call that only looks: a wait of hours must outlast a bad moment."""
        for _ in range(_LOOKS):
            try:
                return await call()
            except CALL_ERRORS as error:
                if classify(error).action != "retry" or self._stop.is_set():
                    raise
                await self._sleep(_LONGEST_POLL_S)
        return await call()

    def _unanswered(self, jobs: Iterable[Job[Any]]) -> Iterator[tuple[str, ChatRequest, bytes]]:
        """What the journal does not answer: key, request and body of each, once."""
        seen: set[str] = set()
        for job in jobs:
            todo = [job]
            while todo:
                one = todo.pop()
                request = one.request()
                found = self._recall.find(request)
                key, body = self._recall.put(request)
                if found is not None:
                    todo.extend(one.reduce(found.reply).follow_ups)
                elif not self._recall.dialect(request.model).takes(request.logprobs):
                    todo.extend(one.reduce(CallFailure(NO_LOGPROBS, "not given")).follow_ups)
                elif key not in seen and self._tries.get(key, 0) < _TRIES:
                    seen.add(key)
                    most = self._recall.dialect(request.model).most_tokens(request)
                    yield key, replace(request, max_tokens=most), body

    def _write(self, make_jobs: Callable[[], Iterable[Job[Any]]], folder: Path) -> list["_File"]:
        """Files of requests, as many as the budget allows at their worst."""
        left = self._left_usd()
        path = urlsplit(self._client.base_url).path + PATH
        files: list[_File] = []
        asked: list[tuple[str, ChatRequest]] = []
        for key, request, body in self._unanswered(make_jobs()):
            worst = worst_usd(self._price, body, len(request.messages), request.max_tokens)
            if left is not None:
                if worst > left:
                    break
                left -= worst
            head = json.dumps({"custom_id": key, "method": "POST", "url": path})
            # The body goes in as the bytes that were hashed.
            line = head[:-1].encode() + b', "body": ' + body + b"}\n"
            full = files and (
                files[-1].requests == self._settings.most_requests
                or files[-1].bytes + len(line) > _MOST_BYTES
            )
            if full or not files:
                files.append(_File(folder / f"{len(files)}.jsonl", request.model))
            files[-1].add(line, worst)
            self._tries[key] = self._tries.get(key, 0) + 1
            # Before it is handed in: the process that collects the reply may not be this one.
            asked.append((key, request))
            if len(asked) == _KEPT_AT_ONCE:
                self._journal.note_all(asked)
                asked.clear()
        self._journal.note_all(asked)
        return files

    def _left_usd(self) -> float | None:
        budget = self._settings.budget_usd
        return None if budget is None else budget - self._journal.spent_usd()

    async def _submit(self, file: "_File") -> None:
        """Hand in a file; what is known of it is in the journal at every step."""
        row = (file.name, None, file.model, file.requests, file.worst_usd, "begun", time.time())
        self._journal.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
        id = await self._client.submit_batch(file.path, file.name, PATH)
        self._journal.execute(
            "UPDATE batches SET id = ?, state = 'pending' WHERE name = ?", id, file.name
        )
        self._on_event(f"batch {id}: {file.requests:,} requests handed in")

    async def _adopt_lost(self) -> None:
        """Find batches that were made just before the process died, by the name they were given."""
        begun = self._journal.execute("SELECT name FROM batches WHERE state = 'begun'")
        if not begun:
            return
        made = await self._client.list_batches(_LISTED)
        for (name,) in begun:
            id = next((b["id"] for b in made if _name_of(b) == name), None)
            if id is None:
                self._journal.execute("DELETE FROM batches WHERE name = ?", name)
            else:
                self._journal.execute(
                    "UPDATE batches SET id = ?, state = 'pending' WHERE name = ?", id, name
                )

    async def _collect_pending(self) -> None:
        rows = self._journal.execute(
            "SELECT id, model, worst_usd / requests FROM batches WHERE state = 'pending'"
        )
        # What one of them turns out not to take, the others were sent with as well.
        sent_with = {model: self._recall.dialect(model) for _, model, _ in rows}
        for id, model, worst in rows:
            batch = await self._ended(id)
            wanted = [batch.get("output_file_id"), batch.get("error_file_id")]
            files = [
                await self._patiently(partial(self._client.file, str(file_id)))
                for file_id in wanted
                if file_id
            ]
            for file in files:
                await self._keep(file, model, sent_with[model], worst)
            self._journal.execute("UPDATE batches SET state = ? WHERE id = ?", batch["status"], id)
            if batch["status"] == "failed":
                raise UserError(f"batch {id} was refused: {_errors(batch)}")
            if batch["status"] != "completed":
                self._on_event(f"batch {id} {batch['status']}: what it had done is kept")

    async def _ended(self, id: str) -> dict[str, Any]:
        """The batch, once it has ended in some way. Raises Drained when asked to stop."""
        pause_s = _FIRST_POLL_S
        said = ""
        while True:
            batch = await self._patiently(partial(self._client.batch, id))
            if batch["status"] not in _RUNNING:
                return batch
            counts = batch.get("request_counts") or {}
            news = f"{batch['status']}, {counts.get('completed', 0)} of {counts.get('total', 0)}"
            if news != said:
                self._on_event(f"batch {id}: {news} done")
                said = news
            if self._stop.is_set():
                self._on_event(f"batch {id} is pending: the same command goes on waiting for it")
                raise Drained
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_POLL_S)

    async def _keep(self, lines: bytes, model: str, sent_with: Dialect, worst: float) -> None:
        """Journal the replies of a file of results, in whatever order they are.

        `worst` is the most that one of them can have cost, on average.
        """
        kept: list[Received] = []
        for line in lines.splitlines():
            try:
                result = json.loads(line)
                key, response = str(result["custom_id"]), result.get("response") or {}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            body, status = response.get("body"), response.get("status_code")
            if status != 200:
                self._hear_refusal(status, body, model, sent_with)
                continue
            raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            readable = _is_readable(raw)
            cost = cost_usd(self._price, raw, worst, readable=readable)
            kept.append(Received(key, model, raw, usage_of(raw), cost, readable))
            if len(kept) == _KEPT_AT_ONCE:
                await asyncio.gather(*map(self._journal.put, kept))
                kept.clear()
        await asyncio.gather(*map(self._journal.put, kept))

    def _hear_refusal(self, status: object, body: object, model: str, sent_with: Dialect) -> None:
        """Where it is a parameter that is refused, the next round goes without it."""
        # All requests of a batch are refused alike.
        if self._recall.dialect(model) != sent_with:
            return
        message, code = server_message(body)
        if not isinstance(status, int) or status < 400:
            return
        if classify_status(status, message, code, {}).action != "adapt":
            return
        weaker = sent_with.without(message)
        if weaker is not None:
            self._recall.lose(model, weaker.lost)
            self._on_event(f"{self._client.base_url} does not take {weaker.lost[-1]}")


class _File:
    """Requests on their way into a batch; `name` tells it from all others."""

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model = path, model
        self.requests, self.bytes, self.worst_usd = 0, 0, 0.0
        self._digest = hashlib.sha256()

    def add(self, line: bytes, worst_usd: float) -> None:
        with self.path.open("ab") as file:
            file.write(line)
        self._digest.update(line)
        self.requests += 1
        self.bytes += len(line)
        self.worst_usd += worst_usd

    @property
    def name(self) -> str:
        return self._digest.hexdigest()


def _is_readable(raw: bytes) -> bool:
    try:
        read_reply(raw)
    except UnreadableReply:
        return False
    return True


def _name_of(batch: dict[str, Any]) -> object:
    return (batch.get("metadata") or {}).get("autointerp")


def _errors(batch: dict[str, Any]) -> str:
    found = ((batch.get("errors") or {}).get("data")) or []
    return "; ".join(server_message(error)[0] for error in found[:3]) or "no reason is given"
