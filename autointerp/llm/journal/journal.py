"""Stores every paid reply on disk before it is used.

Replies are kept in SQLite by the key of their request, with what was asked (journal_prompts.py);
requests in flight are in a file beside it (in_flight.py). One thread writes, and commits together
all that came in while it was committing: a reply survives a power cut once `put` has returned, at
the price of one sync for many.
"""

import asyncio
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autointerp.errors import AutointerpError
from autointerp.llm.journal.in_flight import InFlightLog, Send
from autointerp.llm.journal.journal_file import connect, set_up, unusable
from autointerp.llm.journal.journal_prompts import PromptRows, is_kept
from autointerp.llm.wire.reply import Usage
from autointerp.llm.wire.request import ChatRequest
from autointerp.secrets import masked_bytes

_MAX_COMMIT = 256  # replies in one commit: bounds the memory and what one failure touches
_GATHER_S = 0.004  # waited for more to commit with the first: a sync costs about as much
_PUT = "INSERT OR REPLACE INTO {} VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Received:
    """A reply as it came, and what was `asked` where that is known and not kept already.

    `cost_usd` is None where the price is not known.
    """

    key: str
    model: str
    raw: bytes
    usage: Usage
    cost_usd: float | None
    readable: bool = True
    asked: ChatRequest | None = None


@dataclass(frozen=True, slots=True)
class _Write:
    """A reply, or only what was asked, by whose key it is."""

    kept: Received | tuple[str, ChatRequest]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


def _end(batch: list[_Write], error: Exception | None) -> None:
    for write in batch:
        if write.done.cancelled():
            continue
        if error is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(error)


class Journal:
    """Replies by request key. A reply that was put is never bought again.

    The messages of requests are stored beside their replies, keys of endpoints are not. Raises
    AutointerpError for a file that cannot be used; such a file is left as it is.
    """

    def __init__(self, path: Path, reader: sqlite3.Connection, sends: InFlightLog) -> None:
        self._path, self._reader, self._in_flight = path, reader, sends
        # Few, if any: knowing them saves a look at the table for every reply.
        self._unreadable = {key for (key,) in reader.execute("SELECT key FROM spoiled")}
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._writer.start()

    @staticmethod
    def open(path: Path) -> "Journal":
        try:
            reader = connect(path)
            set_up(path, reader)
            return Journal(path, reader, InFlightLog(path.with_suffix(".sends")))
        except sqlite3.Error as error:
            raise unusable(path, error) from None
        except OSError as error:
            raise unusable(path, error) from None

    def take_up_unconfirmed(self) -> list[Send]:
        """The sends of an earlier process that have no known outcome.

        From now on they count among what was spent, at the most that they can have cost.
        """
        unconfirmed = self._in_flight.unsettled()
        for key in {send.key for send in unconfirmed}:
            # The reply was committed, but the process died before it could note that.
            if not self._in_flight.answered(key) and self.get(key) is not None:
                unconfirmed.remove(next(send for send in unconfirmed if send.key == key))
        try:
            # All or none: what a process leaves here when it dies is counted again.
            self._reader.execute("BEGIN IMMEDIATE")
            rows = [(send.key, send.worst_usd) for send in unconfirmed]
            self._reader.executemany("INSERT INTO doubts VALUES (?, ?)", rows)
            self._reader.execute("COMMIT")
            self._in_flight.clear()
        except (sqlite3.Error, OSError) as error:
            if self._reader.in_transaction:
                self._reader.rollback()
            raise unusable(self._path, error) from None
        return unconfirmed

    def get(self, key: str) -> tuple[bytes, float | None] | None:
        """The reply and its cost, or None; a damaged reply is None too, and is bought again."""
        row = self._one("SELECT reply, cost_usd FROM replies WHERE key = ?", key)
        try:
            return None if row is None else (zlib.decompress(row[0]), row[1])
        except (zlib.error, TypeError):
            return None

    def has_unreadable(self, key: str) -> bool:
        """Whether there were unreadable replies to this request."""
        return key in self._unreadable

    def unreadable_usage(self, key: str) -> tuple[Usage, float]:
        """What unreadable replies to this request have used up, and their known cost in dollars."""
        if not self.has_unreadable(key):
            return Usage(), 0.0
        row = self._one(
            "SELECT SUM(prompt_tokens), SUM(completion_tokens), SUM(cached_tokens), SUM(cost_usd) "
            "FROM spoiled WHERE key = ?",
            key,
        )
        assert row is not None
        return Usage(row[0] or 0, row[1] or 0, row[2] or 0), row[3] or 0.0

    def spent_usd(self) -> float:
        """Dollars spent so far: known costs, and unconfirmed sends at their worst."""
        row = self._one(
            "SELECT (SELECT TOTAL(cost_usd) FROM replies) + (SELECT TOTAL(cost_usd) FROM spoiled) "
            "+ (SELECT TOTAL(worst_usd) FROM doubts) "
            "+ (SELECT TOTAL(worst_usd) FROM batches WHERE state IN ('begun', 'pending'))"
        )
        assert row is not None
        return float(row[0])

    def fact(self, name: str) -> str | None:
        """A stored fact about an endpoint, by name."""
        row = self._one("SELECT value FROM facts WHERE name = ?", name)
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        self.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)

    def pending_batches(self) -> int:
        """How many batches were submitted and not collected."""
        row = self._one("SELECT COUNT(*) FROM batches WHERE state IN ('begun', 'pending')")
        assert row is not None
        return int(row[0])

    def sending(self, send: Send) -> None:
        """Note that the request is about to leave."""
        try:
            self._in_flight.begin(send)
        except OSError as error:
            raise self._unwritable(error) from None

    def settle(self, send: Send, *, answered: bool) -> None:
        """Note that the reply is kept or, without one, that nothing can have been billed."""
        try:
            self._in_flight.settle(send, answered=answered)
        except OSError as error:
            raise self._unwritable(error) from None

    async def put(self, received: Received) -> None:
        """Store a reply; when this returns it is on disk. Raises AutointerpError."""
        if not received.readable:
            self._unreadable.add(received.key)
        await self._written(received)

    async def note(self, key: str, asked: ChatRequest) -> None:
        """Index the stored reply to this request by what the request is about."""
        try:
            if not asked.about or is_kept(self._reader, key, asked.about):
                return
        except sqlite3.Error as error:
            raise unusable(self._path, error) from None
        await self._written((key, asked))

    def mark_unreadable(self, chains: Iterable[Sequence[str]]) -> None:
        """Mark the replies to these requests as unreadable, so that a later run sends them again.

        Each chain asked for the same thing time after time. What it took is counted with its first
        request, which is the one that a later run sends.
        """
        # A request may be in a chain twice, where what it was asked again with changed nothing.
        moved = list(dict.fromkeys((chain[0], key) for chain in chains for key in chain))
        try:
            self._reader.execute("BEGIN IMMEDIATE")
            self._reader.executemany(
                "INSERT INTO spoiled SELECT ?, model, reply, received_at, prompt_tokens, "
                "completion_tokens, cached_tokens, cost_usd FROM replies WHERE key = ?",
                moved,
            )
            self._reader.executemany("DELETE FROM replies WHERE key = ?", [m[1:] for m in moved])
            self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            if self._reader.in_transaction:
                self._reader.rollback()
            raise self._unwritable(error) from None
        self._unreadable.update(first for first, _ in moved)

    def note_all(self, asked: Iterable[tuple[str, ChatRequest]]) -> None:
        """Store requests, each with its key, before there is a reply; on disk when this returns."""
        rows = PromptRows()
        for key, request in asked:
            rows.add(key, request)
        try:
            self._reader.execute("BEGIN IMMEDIATE")
            rows.insert(self._reader)
            self._reader.execute("COMMIT")
        except sqlite3.Error as error:
            if self._reader.in_transaction:
                self._reader.rollback()
            raise self._unwritable(error) from None

    async def _written(self, kept: Received | tuple[str, ChatRequest]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._writes.put(_Write(kept, loop, done))
        await done

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement on a rarely used table; committed when this returns."""
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        self._writes.put(None)
        self._writer.join()
        self._in_flight.close()
        self._reader.close()

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._reader.execute(statement, values).fetchone()
            return row
        except sqlite3.Error as error:
            raise unusable(self._path, error) from None

    def _unwritable(self, error: Exception) -> AutointerpError:
        return unusable(self._path, error)

    def _write_all(self) -> None:
        """The writer's thread: commit what has come in, all at once, until None comes."""
        connection: sqlite3.Connection | None = None
        ended = False
        while not ended:
            batch: list[_Write] = []
            error: Exception | None = None
            try:
                rows = _Rows()
                ended = self._gather(batch, rows)
                if batch:
                    connection = connection or connect(self._path)
                    rows.commit(connection)
            except Exception as failure:
                # Whatever it is, somebody waits for it.
                error = self._unwritable(failure)
            # The loop may be gone: nobody waits for these writes any more, but they were made.
            if batch and not batch[0].loop.is_closed():
                batch[0].loop.call_soon_threadsafe(_end, batch, error)
        if connection is not None:
            connection.close()

    def _gather(self, batch: list[_Write], rows: "_Rows") -> bool:
        """Take the next write and those soon after it; whether the end came among them.

        Their rows are made while others come in, which costs no time of its own.
        """
        until = 0.0
        while len(batch) < _MAX_COMMIT:
            if batch and self._writes.empty():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(left)
                continue
            write = self._writes.get()
            if write is None:
                return True
            until = until or time.monotonic() + _GATHER_S
            batch.append(write)
            rows.add(write.kept)
        return False


@dataclass(slots=True)
class _Rows:
    """Rows for one commit, by table."""

    replies: list[tuple[object, ...]] = field(default_factory=list)
    unreadable: list[tuple[object, ...]] = field(default_factory=list)
    prompts: PromptRows = field(default_factory=PromptRows)

    def add(self, kept: Received | tuple[str, ChatRequest]) -> None:
        if isinstance(kept, tuple):
            self.prompts.add(*kept)
            return
        usage = kept.usage
        row = (
            kept.key,
            kept.model,
            zlib.compress(masked_bytes(kept.raw)),
            time.time(),
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            kept.cost_usd,
        )
        (self.replies if kept.readable else self.unreadable).append(row)
        if kept.asked is not None:
            self.prompts.add(kept.key, kept.asked)

    def commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_PUT.format("replies"), self.replies)
            connection.executemany(_PUT.format("spoiled"), self.unreadable)
            self.prompts.insert(connection)
            connection.execute("COMMIT")
        except Exception:
            # A full disk may have rolled it back already.
            if connection.in_transaction:
                connection.rollback()
            raise
