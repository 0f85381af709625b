"""Stores prompts beside the replies, indexed by what each request is about.

Messages that requests of a kind have in common, their system blocks, are stored once. These tables
came later than the journal's others: a version without them can still use the file, and only stores
no prompts, so that the file's version is the same.
"""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from autointerp.llm.wire.request import ChatRequest
from autointerp.secrets import masked

# `messages` is JSON: the role of each and the name of its text, null for the next of `own`, which
# is compressed JSON. Requests are found by what they are about alone: an index of their keys, which
# are random, would cost a page of disk for every reply.
SCHEMA = """
CREATE TABLE IF NOT EXISTS texts (name TEXT PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS prompts (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, messages TEXT NOT NULL, own BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS about (
    about TEXT NOT NULL, prompt INTEGER NOT NULL, PRIMARY KEY (about, prompt)
) WITHOUT ROWID;
"""
_SHARED = 64  # texts that are remembered
_LEVEL = 1  # of compression: nearly what the highest saves


@dataclass(frozen=True, slots=True)
class _Row:
    key: str
    messages: str
    own: bytes
    about: tuple[str, ...]


@dataclass(slots=True)
class PromptRows:
    """Rows for one commit. Hashing and compressing is done by `add`."""

    texts: dict[str, bytes] = field(default_factory=dict)
    rows: list[_Row] = field(default_factory=list)

    def add(self, key: str, asked: ChatRequest) -> None:
        """Add a request; one that is about nothing is not stored, since nobody could find it."""
        if not asked.about:
            return
        messages: list[tuple[str, str | None]] = []
        own = []
        for message in asked.messages:
            role, content = message["role"], message["content"]
            name = None
            if role == "user":
                own.append(content)
            else:
                name, text = _named(content)
                self.texts[name] = text
            messages.append((role, name))
        packed = zlib.compress(_encoded(json.dumps(own, ensure_ascii=False)), _LEVEL)
        self.rows.append(_Row(key, json.dumps(messages), packed, asked.about))

    def insert(self, connection: sqlite3.Connection) -> None:
        """To be called within a transaction."""
        connection.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", self.texts.items())
        about: list[tuple[str, int | None]] = []
        for row in self.rows:
            values = (row.key, row.messages, row.own)
            added = connection.execute("INSERT INTO prompts VALUES (NULL, ?, ?, ?)", values)
            about.extend((name, added.lastrowid) for name in row.about)
        connection.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", about)


def _encoded(text: str) -> bytes:
    # As in a request's body: text cut within a character may hold what UTF-8 cannot.
    return masked(text).encode("utf-8", errors="replace")


@lru_cache(_SHARED)
def _named(text: str) -> tuple[str, bytes]:
    """A text's name, which is its hash, and the text as it is stored."""
    raw = _encoded(text)
    return hashlib.blake2b(raw, digest_size=16).hexdigest(), zlib.compress(raw, _LEVEL)


def is_kept(connection: sqlite3.Connection, key: str, about: Sequence[str]) -> bool:
    """Whether the request is found by everything that it is about."""
    places = ", ".join("?" * len(about))
    (found,) = connection.execute(
        "SELECT COUNT(DISTINCT about) FROM about JOIN prompts ON prompts.id = about.prompt "
        f"WHERE about IN ({places}) AND key = ?",
        (*about, key),
    ).fetchone()
    return int(found) == len(set(about))


def prompts_about(connection: sqlite3.Connection, about: str) -> dict[tuple[str, str], int]:
    """What `about` names, and what begins with it and a colon: what it is about and key → prompt.

    A request that was sent twice has two prompts, which are the same.
    """
    columns = "SELECT about, key, id FROM about JOIN prompts ON prompts.id = about.prompt"
    rows = connection.execute(f"{columns} WHERE about = ?", (about,)).fetchall()
    # ";" comes next after ":".
    within = (f"{about}:", f"{about};")
    rows += connection.execute(f"{columns} WHERE about > ? AND about < ?", within).fetchall()
    return {(name, key): prompt for name, key, prompt in rows}


def read_messages(connection: sqlite3.Connection, prompt: int | None) -> list[dict[str, str]]:
    """The messages of a prompt; empty where there is none, or it is damaged."""
    row = connection.execute("SELECT messages, own FROM prompts WHERE id = ?", (prompt,)).fetchone()
    if row is None:
        return []
    try:
        own = iter(json.loads(zlib.decompress(row[1])))
        return [
            {"role": role, "content": next(own) if name is None else _text(connection, name)}
            for role, name in json.loads(row[0])
        ]
    except (zlib.error, ValueError, TypeError, StopIteration):
        return []


def _text(connection: sqlite3.Connection, name: str) -> str:
    row = connection.execute("SELECT text FROM texts WHERE name = ?", (name,)).fetchone()
    return zlib.decompress(row[0]).decode()


def forget_unneeded(connection: sqlite3.Connection) -> None:
    """Forget prompts without a reply and texts without a prompt. Within a transaction.

    While a batch is pending its prompts wait for their replies, so that none is forgotten.
    """
    connection.execute(
        "DELETE FROM prompts WHERE key NOT IN (SELECT key FROM replies "
        "UNION SELECT key FROM spoiled WHERE reply != x'') "
        "AND NOT EXISTS (SELECT 1 FROM batches WHERE state IN ('begun', 'pending'))"
    )
    connection.execute("DELETE FROM about WHERE prompt NOT IN (SELECT id FROM prompts)")
    connection.execute(
        "DELETE FROM texts WHERE name NOT IN ("
        "SELECT json_extract(value, '$[1]') FROM prompts, json_each(prompts.messages) "
        "WHERE json_extract(value, '$[1]') IS NOT NULL)"
    )
