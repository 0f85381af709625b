"""Replies through a batch endpoint (OpenAI's Batch API): half the price, hours of waiting.

Batches only fill the journal: afterwards the pool finds the replies there, and asks online for
what no batch could answer. Follow-ups of one round of batches are the next round. What was handed
in is in the journal too, so that a process that dies while a batch is pending loses nothing: the
next one waits for the same batch.
"""

import asyncio
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import urlsplit

from autointerp.errors import EndpointError
from autointerp.llm.batch_results import (
    NoReply,
    errors_of,
    is_readable,
    name_of,
    progress_of,
    read_result,
)
from autointerp.llm.journal.journal import Journal, Received
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.llm.limits.budget import cost_usd, worst_usd
from autointerp.llm.limits.prices import Price
from autointerp.llm.pool import Drained, PoolJob
from autointerp.llm.wire.call_errors import CALL_ERRORS, UnreadableReply, classify
from autointerp.llm.wire.client import ChatClient, id_of
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.logprobs import NO_LOGPROBS
from autointerp.llm.wire.reply import CallFailure, usage_of
from autointerp.llm.wire.request import PATH, ChatRequest
from autointerp.plain_text import tidy
from autointerp.secrets import masked

R = TypeVar("R")

_MAX_REQUESTS = 50_000  # in one file, by the API's rules
_MAX_BYTES = 190_000_000  # of 200 MB
_ROUNDS = 8  # a feature's label is asked for in ever smaller groups, which ends before this
_TRIES = 2  # batches that a request is put into before it is left to be asked online
_FIRST_POLL_S, _MAX_POLL_S = 5.0, 60.0
_ENDED = ("completed", "failed", "expired", "cancelled")
_NOT_DONE = ("rate_limit", "overloaded", "unreachable")  # failures of calls that did nothing
_LOOKS = 10  # a minute apart, at a batch that cannot be looked at
_KEPT_AT_ONCE = 256
_LISTED = 100  # batches looked through for one that was made just before a crash


@dataclass(frozen=True)
class BatchSettings:
    """`budget_usd` bounds what has been spent, with what is pending at its worst."""

    price: Price | None
    budget_usd: float | None = None
    most_requests: int = _MAX_REQUESTS


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
        self._reply_cache = ReplyCache(journal, client.base_url, dialect)
        self._on_event, self._stop, self._sleep = on_event, stop, sleep
        self._price = settings.price.in_batches() if settings.price else None
        self._tries: dict[str, int] = {}

    async def fill(self, make_jobs: Callable[[], Iterable[PoolJob[Any]]]) -> None:
        """Batch after batch, until the journal answers all jobs that batches can answer.

        Raises AutointerpError where the endpoint takes no batches, and Drained when asked to stop.
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
            raise EndpointError(f"batches at {self._client.base_url}: {message}") from None

    async def _patiently(
        self, call: Callable[[], Awaitable[R]], *, can_be_repeated: bool = True
    ) -> R:
        """The outcome of a call, tried again after a while: hours must outlast a bad moment.

        What must not be done twice is tried again only where it was certainly not done.
        """
        for _ in range(_LOOKS):
            try:
                return await call()
            except CALL_ERRORS as error:
                decision = classify(error)
                unconfirmed = not can_be_repeated and decision.kind not in _NOT_DONE
                too_large = decision.kind == "too_large"
                if decision.action != "retry" or unconfirmed or too_large or self._stop.is_set():
                    raise
                await self._sleep(_MAX_POLL_S)
        return await call()

    def _unanswered(self, jobs: Iterable[PoolJob[Any]]) -> Iterator[tuple[str, ChatRequest, bytes]]:
        """What the journal does not answer: key, request and body of each, once."""
        seen: set[str] = set()
        for job in jobs:
            todo = [job]
            while todo:
                one = todo.pop()
                request = one.request()
                found = self._reply_cache.find(request)
                key, body = self._reply_cache.put(request)
                if found is not None:
                    todo.extend(one.reduce(found.reply).follow_ups)
                elif not self._reply_cache.dialect(request.model).takes(request.logprobs):
                    todo.extend(one.reduce(CallFailure(NO_LOGPROBS, "not given")).follow_ups)
                elif key not in seen and self._tries.get(key, 0) < _TRIES:
                    seen.add(key)
                    most = self._reply_cache.dialect(request.model).most_tokens(request)
                    yield key, replace(request, max_tokens=most), body

    def _write(
        self, make_jobs: Callable[[], Iterable[PoolJob[Any]]], folder: Path
    ) -> list["_File"]:
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
            # The body goes in as the bytes that would be sent online.
            line = head[:-1].encode() + b', "body": ' + body + b"}\n"
            full = files and (
                files[-1].requests == self._settings.most_requests
                or files[-1].bytes + len(line) > _MAX_BYTES
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
        uploaded = await self._patiently(partial(self._client.upload, file.path))
        create = partial(self._client.create_batch, uploaded, file.name, PATH)
        id = await self._patiently(create, can_be_repeated=False)
        self._journal.execute(
            "UPDATE batches SET id = ?, state = 'pending' WHERE name = ?", id, file.name
        )
        self._on_event(f"batch {id}: submitted {file.requests:,} requests")

    async def _adopt_lost(self) -> None:
        """Find batches that were made just before the process died, by the name they were given."""
        begun = self._journal.execute("SELECT name FROM batches WHERE state = 'begun'")
        if not begun:
            return
        made = await self._patiently(partial(self._client.list_batches, _LISTED))
        for (name,) in begun:
            id = next((id_of(b) for b in made if name_of(b) == name), None)
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
        sent_with = {model: self._reply_cache.dialect(model) for _, model, _ in rows}
        for id, model, worst in rows:
            batch = await self._ended(id)
            wanted = [batch.get("output_file_id"), batch.get("error_file_id")]
            files = [
                await self._patiently(partial(self._client.file, file_id))
                for file_id in wanted
                if isinstance(file_id, str) and file_id
            ]
            for file in files:
                await self._keep(file, model, sent_with[model], worst)
            self._journal.execute("UPDATE batches SET state = ? WHERE id = ?", batch["status"], id)
            if batch["status"] == "failed":
                reasons = masked(errors_of(batch))
                raise EndpointError(f"batch {id} failed: {reasons}")
            if batch["status"] != "completed":
                self._on_event(f"batch {id} {batch['status']}: keeping the replies it has")

    async def _ended(self, id: str) -> dict[str, Any]:
        """The batch, once it has ended in some way. Raises Drained when asked to stop."""
        pause_s = _FIRST_POLL_S
        said = ""
        while True:
            batch = await self._patiently(partial(self._look, id))
            if batch["status"] in _ENDED:
                return batch
            news = f"{tidy(batch['status'])}{progress_of(batch)}"
            if news != said:
                self._on_event(f"batch {id}: {news}")
                said = news
            if self._stop.is_set():
                self._on_event(
                    f"batch {id} is still pending: rerun the same command to resume waiting for it"
                )
                raise Drained
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_POLL_S)

    async def _look(self, id: str) -> dict[str, Any]:
        batch = await self._client.batch(id)
        if not isinstance(batch.get("status"), str):
            raise UnreadableReply(f"batch {id} has no status")
        return batch

    async def _keep(self, lines: bytes, model: str, sent_with: Dialect, worst: float) -> None:
        """Journal the replies of a file of results, in whatever order they are.

        `worst` is the most that one of them can have cost, on average.
        """
        kept: list[Received] = []
        failed = Counter[str]()
        for line in io.BytesIO(lines):
            if not line.strip():
                continue
            try:
                key, raw = read_result(line)
            except (NoReply, UnreadableReply) as reason:
                failed[str(reason)] += 1
                if isinstance(reason, NoReply):
                    self._on_rejection(reason, model, sent_with)
                continue
            readable = is_readable(raw)
            cost = cost_usd(self._price, raw, worst, readable=readable)
            kept.append(Received(key, model, raw, usage_of(raw), cost, readable))
            if len(kept) == _KEPT_AT_ONCE:
                await asyncio.gather(*map(self._journal.put, kept))
                kept.clear()
        await asyncio.gather(*map(self._journal.put, kept))
        if failed:
            words = masked(failed.most_common(1)[0][0])
            self._on_event(f"{failed.total():,} requests of the batch have no reply: {words}")

    def _on_rejection(self, reason: NoReply, model: str, sent_with: Dialect) -> None:
        """Where it is a parameter that is rejected, the next round goes without it."""
        # All requests of a batch are rejected alike.
        if self._reply_cache.dialect(model) != sent_with or reason.decision.action != "adapt":
            return
        fallback = sent_with.without(reason.decision.message)
        if fallback is not None:
            self._reply_cache.drop(model, fallback.dropped)
            self._on_event(f"{self._client.base_url} does not support {fallback.dropped[-1]}")


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
