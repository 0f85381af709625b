"""The journal's file: its tables, opening it, and looking at it from outside a run."""

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp.errors import AutointerpError, InputError
from autointerp.llm.journal import journal_prompts
from autointerp.llm.journal.in_flight import unsettled
from autointerp.llm.journal.journal_prompts import prompts_about, read_messages
from autointerp.llm.wire.call_errors import UnreadableReply
from autointerp.llm.wire.reply import read_reply
from autointerp.storage.files import is_full

VERSION = 2  # of the tables, in SQLite's user_version
BUSY_S = 5.0

_COLUMNS = """
    key TEXT NOT NULL {unique},
    model TEXT NOT NULL,
    reply BLOB NOT NULL,
    received_at REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cost_usd REAL
"""
_COLUMN_NAMES = [line.split()[0] for line in _COLUMNS.strip().splitlines()]
# The table `spoiled` has the unreadable replies: paid for, so counted, but never looked up;
# `doubts` has the unconfirmed sends, whose outcome no process has learned, `facts` what was found
# out about endpoints, `batches` what was submitted to a batch endpoint.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS replies ({_COLUMNS.format(unique="UNIQUE")});
CREATE TABLE IF NOT EXISTS spoiled ({_COLUMNS.format(unique="")});
CREATE INDEX IF NOT EXISTS spoiled_by_key ON spoiled (key);
CREATE TABLE IF NOT EXISTS doubts (key TEXT NOT NULL, worst_usd REAL NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY,
    id TEXT,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    worst_usd REAL NOT NULL,
    state TEXT NOT NULL,
    submitted_at REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class JournalInfo:
    """What a journal holds; `unconfirmed` requests may have been billed without a reply."""

    replies: int
    unreadable: int
    unconfirmed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float
    worst_usd: float
    models: tuple[tuple[str, int], ...]
    first_at: float | None
    last_at: float | None
    bytes: int


@dataclass(frozen=True, slots=True)
class JournaledExchange:
    """A request and a reply to it.

    `reply` is the body as it came, with replacement characters where it is not UTF-8, and `text`
    what the model said in it, None where that cannot be read. Tokens and dollars are those of the
    whole request, whatever else it is about. A damaged journal has empty messages or replies.
    """

    about: str
    model: str
    messages: list[dict[str, str]]
    reply: str
    text: str | None
    received_at: float  # seconds since 1970
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float | None
    readable: bool


def unusable(path: Path, error: Exception) -> AutointerpError:
    """The error for a journal that cannot be used, with what to do about it."""
    said = str(error)
    if "locked" in said or "busy" in said:
        return InputError(f"journal {path} is in use by another program: {said}")
    if "malformed" in said or "not a database" in said:
        return InputError(
            f"journal {path} is damaged ({said}): `autointerp repair {path.parent}` "
            "copies the readable replies to a new one; a run then requests the "
            "others again"
        )
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or is_full(
        error, path.parent
    ):
        return InputError(
            f"journal {path} cannot be written: the disk is full. What it holds is "
            "safe; free some space and rerun the same command"
        )
    return InputError(f"journal {path} cannot be used: {said}")


def connect(path: Path) -> sqlite3.Connection:
    """A connection in which each statement is a transaction of its own."""
    connection = sqlite3.connect(
        # Used by one thread at a time, but not always the same one.
        path,
        isolation_level=None,
        timeout=BUSY_S,
        check_same_thread=False,
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def set_up(path: Path, connection: sqlite3.Connection) -> None:
    """Make the tables where they are not there. Raises AutointerpError for another version's."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    columns = [row[1] for row in connection.execute("PRAGMA table_info(replies)")]
    # Tables of ours without a version: the disk filled up while an earlier autointerp made them.
    begun = version == 0 and columns in ([], _COLUMN_NAMES)
    if version != VERSION and not begun:
        raise InputError(
            f"journal {path} was written by another version of autointerp (table "
            f"version {version or 1}, this one uses {VERSION}): finish the run with "
            "that version, or move the journal away"
        )
    # All of it or nothing: a file with some of the tables would be of no version.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in (_SCHEMA + journal_prompts.SCHEMA).split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise


def _read_only(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise InputError(f"journal {path}: no such file")
    try:
        # Reading needs a file beside it, but for a file that nobody can be writing to.
        is_open = os.access(path.parent, os.W_OK) or path.with_name(path.name + "-wal").exists()
        how = "mode=ro" if is_open else "mode=ro&immutable=1"
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=BUSY_S)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if (
            connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone()
            is None
        ):
            # Of an earlier program: tables of this connection's own are as empty as they would be.
            own = journal_prompts.SCHEMA.replace("CREATE TABLE", "CREATE TEMP TABLE")
            connection.executescript(own)
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    if version != VERSION:
        raise InputError(
            f"journal {path} has version {version}, but this autointerp reads version {VERSION}"
        )
    return connection


def info(path: Path) -> JournalInfo:
    """What the journal holds, also while a run writes to it. Raises AutointerpError."""
    connection = _read_only(path)
    try:
        sums = connection.execute(
            "SELECT COUNT(*), SUM(spoiled), SUM(prompt_tokens), SUM(completion_tokens), "
            "SUM(cached_tokens), SUM(cost_usd), MIN(received_at), MAX(received_at) FROM ("
            "SELECT 0 AS spoiled, * FROM replies UNION ALL SELECT 1 AS spoiled, * FROM spoiled)"
        ).fetchone()
        models = connection.execute(
            "SELECT model, COUNT(*) AS n FROM replies GROUP BY model ORDER BY n DESC"
        ).fetchall()
        unconfirmed, worst = connection.execute(
            "SELECT COUNT(*), SUM(worst_usd) FROM doubts"
        ).fetchone()
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    finally:
        connection.close()
    unreadable = sums[1] or 0
    open_sends = unsettled(path.with_suffix(".sends"))
    sizes = [p.stat().st_size for p in path.parent.glob(path.name + "*")]
    return JournalInfo(
        replies=sums[0] - unreadable,
        unreadable=unreadable,
        unconfirmed=unconfirmed + len(open_sends),
        prompt_tokens=sums[2] or 0,
        completion_tokens=sums[3] or 0,
        cached_tokens=sums[4] or 0,
        cost_usd=sums[5] or 0.0,
        worst_usd=(worst or 0.0) + sum(send.worst_usd for send in open_sends),
        models=tuple(models),
        first_at=sums[6],
        last_at=sums[7],
        bytes=sum(sizes),
    )


def export(path: Path) -> Iterator[dict[str, object]]:
    """Every reply, oldest first, with what it used, what it is about and what was asked.

    Damaged replies are null, messages that were not kept are empty.
    """
    connection = _read_only(path)
    try:
        rows = connection.execute(
            "SELECT key, model, reply, received_at, prompt_tokens, completion_tokens, "
            "cached_tokens, cost_usd, asked.about, asked.prompt FROM replies LEFT JOIN "
            "(SELECT key, json_group_array(about) AS about, MAX(id) AS prompt "
            "FROM about JOIN prompts ON prompts.id = about.prompt GROUP BY key) AS asked "
            "USING (key) ORDER BY replies.rowid"
        )
        names = [column[0] for column in rows.description]
        for row in rows:
            entry = dict(zip(names, row, strict=True))
            entry["reply"] = _decompressed(entry["reply"])
            entry["about"] = sorted(set(json.loads(entry["about"] or "[]")))
            entry["messages"] = read_messages(connection, entry.pop("prompt"))
            yield entry
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    finally:
        connection.close()


def _decompressed(reply: bytes) -> str | None:
    try:
        return zlib.decompress(reply).decode("utf-8", "replace")
    except zlib.error:
        return None


def exchanges(path: Path, about: Sequence[str]) -> list[JournaledExchange]:
    """The requests that are about any of these, and their replies, oldest first.

    `detection:12` finds `detection:12:of:40` as well. Replies that could not be read are among
    them, those from before prompts were kept are not, nor those that were pruned. Reads only, also
    while a run writes. Raises AutointerpError.
    """
    found = []
    try:
        with closing(_read_only(path)) as connection:
            for name in about:
                for (own, key), prompt in prompts_about(connection, name).items():
                    messages = read_messages(connection, prompt)
                    rows = connection.execute(_REPLIES_TO, {"key": key})
                    found += [_exchange(own, messages, row) for row in rows]
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    return sorted(found, key=lambda exchange: exchange.received_at)


_USED = "model, reply, received_at, prompt_tokens, completion_tokens, cached_tokens, cost_usd"
# What was pruned is counted as a spoiled reply of no bytes at all.
_REPLIES_TO = (
    f"SELECT 1, {_USED} FROM replies WHERE key = :key UNION ALL "
    f"SELECT 0, {_USED} FROM spoiled WHERE key = :key AND reply != x''"
)


def _exchange(
    about: str, messages: list[dict[str, str]], row: tuple[Any, ...]
) -> JournaledExchange:
    readable, model, packed, received_at, prompt, completion, cached, cost = row
    reply = _decompressed(packed) or ""
    try:
        text = read_reply(reply.encode()).text
    except UnreadableReply:
        text = None
    return JournaledExchange(
        about=about,
        model=model,
        messages=messages,
        reply=reply,
        text=text,
        received_at=received_at,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cost_usd=cost,
        readable=bool(readable),
    )


def prune(path: Path, before: float) -> int:
    """Forget replies received before a time (seconds since 1970); how many. Raises AutointerpError.

    What they cost stays in the sums, what was asked is forgotten with them. A run that needs them
    again asks, and pays, again.
    """
    _read_only(path).close()
    connection = connect(path)
    try:
        set_up(path, connection)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO spoiled SELECT key, model, x'', received_at, prompt_tokens, "
            "completion_tokens, cached_tokens, cost_usd FROM replies WHERE received_at < ?",
            (before,),
        )
        removed = connection.execute("DELETE FROM replies WHERE received_at < ?", (before,))
        journal_prompts.forget_unneeded(connection)
        connection.execute("COMMIT")
        connection.execute("VACUUM")
        return removed.rowcount
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    finally:
        connection.close()
