"""Copies what is readable of a damaged journal to a new one."""

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from autointerp.llm.journal.journal_file import connect, set_up, unusable
from autointerp.storage.files import aside

_TABLES = ("replies", "spoiled", "doubts", "facts", "batches", "texts", "prompts", "about")
_MAX_RANGES = 20_000  # that are tried around the damage
_NOT_OF_THE_FILE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
)
_FILES = ("", "-wal", "-shm")


def is_damaged(path: Path) -> bool:
    """Whether SQLite finds the file damaged. Raises InputError where it is in use."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchall() != [("ok",)])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _NOT_OF_THE_FILE:
            raise unusable(path, error) from None
        return True


def salvage(path: Path) -> tuple[dict[str, int], Path]:
    """Make a new journal of the rows that can be read, and set the damaged file aside.

    Returns how many rows each table has now, and where the damaged file is. Raises AutointerpError.
    """
    fresh = path.with_name(f".{path.name}.tmp")
    for suffix in _FILES:
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    try:
        with closing(connect(fresh)) as new:
            set_up(fresh, new)
            counts = {table: _copy(path, new, table) for table in _TABLES}
            new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise unusable(fresh, error) from None
    moved = aside(path)
    for suffix in _FILES[1:]:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(moved.with_name(moved.name + suffix))
    fresh.rename(path)
    return counts, moved


def _copy(path: Path, new: sqlite3.Connection, table: str) -> int:
    """Copy a table's readable rows; how many. What is half there, such as a key twice, is not."""
    new.execute("BEGIN")
    for row in _rows(path, table):
        places = ", ".join("?" * len(row))
        new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row)
    new.execute("COMMIT")
    (count,) = new.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
    return int(count)


def _rows(path: Path, table: str) -> Iterator[tuple[object, ...]]:
    """The rows of one table of a damaged file, as far as pages that are whole lead to them."""
    # `about` is its own index and has no row numbers to look beyond the damage by.
    rows = _until_damage if table == "about" else _around_damage
    try:
        with closing(sqlite3.connect(path)) as old:
            yield from rows(old, table, path.stat().st_size)
    except sqlite3.DatabaseError:
        return


def _until_damage(old: sqlite3.Connection, table: str, _most: int) -> Iterator[tuple[object, ...]]:
    for order in ("", "ORDER BY 1 DESC, 2 DESC"):
        with suppress(sqlite3.DatabaseError):
            yield from old.execute(f"SELECT * FROM {table} {order}")


def _around_damage(old: sqlite3.Connection, table: str, most: int) -> Iterator[tuple[object, ...]]:
    """Rows numbered 1 to `most`: from both ends up to the damage, then likewise in its halves."""
    query = f"SELECT rowid, * FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
    todo = deque([(1, most)])
    for _ in range(_MAX_RANGES):
        if not todo:
            return
        first, last = todo.popleft()
        with suppress(sqlite3.DatabaseError):
            for number, *row in old.execute(query, (first, last)):
                yield tuple(row)
                first = number + 1
            continue
        with suppress(sqlite3.DatabaseError):
            for number, *row in old.execute(f"{query} DESC", (first, last)):
                yield tuple(row)
                last = number - 1
            continue
        if first < last:
            middle = (first + last) // 2
            todo += [(first, middle), (middle + 1, last)]
