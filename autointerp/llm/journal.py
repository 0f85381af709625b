"""Every paid reply, on disk before anything is made of it."""

import sqlite3
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from autointerp.errors import UserError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    reply BLOB NOT NULL,
    received_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sends (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    sent_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS sends_by_key ON sends (key);
"""

_SENDING = "INSERT INTO sends (key, sent_at) VALUES (?, ?)"
# Only the last send: an earlier one that was never heard of again stays in doubt.
_SETTLED = "DELETE FROM sends WHERE id = (SELECT max(id) FROM sends WHERE key = ?)"


@dataclass(frozen=True, slots=True)
class JournalTotals:
    replies: int
    in_doubt: int  # requests that were sent and of whose outcome nothing is known


class Journal:
    """Replies by request key, in SQLite. A reply that was put is never bought again.

    Bodies of requests and keys of endpoints are not stored. Raises UserError for a file that
    cannot be used; such a file is left as it is.
    """

    def __init__(self, path: Path, replies: sqlite3.Connection, sends: sqlite3.Connection) -> None:
        self._path = path
        self._connection = replies
        self._sends = sends

    @staticmethod
    def open(path: Path) -> "Journal":
        try:
            # Replies are synced one by one, at 2 ms each: what was paid for survives a power cut.
            # Sends need only survive the process, which the operating system sees to.
            replies = _connect(path, "FULL")
            sends = _connect(path, "NORMAL")
            replies.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise UserError(f"journal {path} cannot be used: {error}") from None
        return Journal(path, replies, sends)

    def get(self, key: str) -> bytes | None:
        """The reply, or None; a damaged one is None too, and is bought again."""
        try:
            row = self._connection.execute(
                "SELECT reply FROM replies WHERE key = ?", (key,)
            ).fetchone()
            return None if row is None else zlib.decompress(row[0])
        except zlib.error:
            return None
        except sqlite3.Error as error:
            raise UserError(f"journal {self._path} cannot be read: {error}") from None

    def sending(self, key: str) -> None:
        """Note that the request is about to leave."""
        try:
            self._sends.execute(_SENDING, (key, time.time()))
        except sqlite3.Error as error:
            raise self._unwritable(error) from None

    def put(self, key: str, raw: bytes, *, model: str) -> None:
        """Store a reply; when this returns it is on disk."""
        row = (key, model, zlib.compress(raw), time.time())
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", row)
            self._connection.execute(_SETTLED, (key,))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A full disk may have rolled it back already.
            if self._connection.in_transaction:
                self._connection.rollback()
            raise self._unwritable(error) from None

    def settle(self, key: str) -> None:
        """Note that a send failed in a way that cannot have been paid for."""
        try:
            self._sends.execute(_SETTLED, (key,))
        except sqlite3.Error as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: sqlite3.Error) -> UserError:
        return UserError(f"journal {self._path} cannot be written: {error}")

    def forget_in_doubt(self) -> int:
        """How many sends of an earlier process have no known outcome; they are struck off."""
        count: int = self._sends.execute("SELECT COUNT(*) FROM sends").fetchone()[0]
        if count:
            self._sends.execute("DELETE FROM sends")
        return count

    def totals(self) -> JournalTotals:
        replies = self._connection.execute("SELECT COUNT(*) FROM replies").fetchone()[0]
        in_doubt = self._connection.execute("SELECT COUNT(*) FROM sends").fetchone()[0]
        return JournalTotals(replies, in_doubt)

    def close(self) -> None:
        self._sends.close()
        self._connection.close()


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection
