"""A log of the requests in flight, in a file that survives the process.

A line is written before a request leaves and another when its outcome is known. Nothing is synced:
the operating system keeps what was written when the process dies, however it does.
"""

import errno
import os
from collections import Counter
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

_MAX_BYTES = 16 << 20  # bytes; beyond it the settled sends are left out of a new file


@dataclass(frozen=True, slots=True)
class Send:
    """One sent request; `worst_usd` is the most that it can cost."""

    key: str
    worst_usd: float


class InFlightLog:
    """Records sends and their outcomes. Raises OSError if the file cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Sends on their way, how often each: a request that timed out may be billed, and is sent
        # again.
        self._open: Counter[Send] = Counter()
        left, self._answered = _read(path)
        self._open.update(left)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._file).st_size
        # A full disk may have cut the last line off: the next one must not be a part of it.
        self._is_cut = self._size > 0

    def begin(self, send: Send) -> None:
        self._open[send] += 1
        self._write("+", send)

    def settle(self, send: Send, *, answered: bool) -> None:
        """The outcome is known: a reply is in the journal, or nothing can have been billed."""
        self._open[send] -= 1
        if not self._open[send]:
            del self._open[send]
        # One request may have been sent in two forms, at different worst costs.
        if answered and any(one.key == send.key for one in self._open):
            self._answered.add(send.key)
        self._write("=" if answered else "-", send)

    def unsettled(self) -> list[Send]:
        return list(self._open.elements())

    def answered(self, key: str) -> bool:
        """Whether an earlier process noted that the reply is in the journal.

        Of this process's own sends, it is remembered only where others of the key are in doubt.
        """
        return key in self._answered

    def clear(self) -> None:
        """Forget all sends, whatever became of them."""
        self._open.clear()
        self._answered.clear()
        os.ftruncate(self._file, 0)
        self._size, self._is_cut = 0, False

    def close(self) -> None:
        if not self._open:
            os.ftruncate(self._file, 0)
        os.close(self._file)

    def _write(self, sign: str, send: Send) -> None:
        line = f"{sign} {send.key} {send.worst_usd!r}\n".encode()
        if self._is_cut:
            line = b"\n" + line
        written = os.write(self._file, line)
        self._size += written
        self._is_cut = written < len(line)
        if self._is_cut:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        if self._size > _MAX_BYTES:
            self._rewrite()

    def _rewrite(self) -> None:
        kept = b"".join(f"+ {s.key} {s.worst_usd!r}\n".encode() for s in self.unsettled())
        # Which of them were sent before and answered must not be forgotten with the rest.
        noted = sorted({send.key for send in self._open} & self._answered)
        kept += b"".join(f"+ {key} 0.0\n= {key} 0.0\n".encode() for key in noted)
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.write_bytes(kept)
        os.replace(temporary, self._path)
        os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._size, self._is_cut = len(kept), False


def _read(path: Path) -> tuple[Counter[Send], set[str]]:
    """The sends without an outcome, and the keys whose reply was noted."""
    unsettled: Counter[Send] = Counter()
    answered: set[str] = set()
    if not path.is_file():
        return unsettled, answered
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        # A line that was cut off by a full disk tells nothing.
        match line.split(" "):
            case [sign, key, cost] if sign in "+-=" and _is_number(cost):
                unsettled[Send(key, float(cost))] += 1 if sign == "+" else -1
                if sign == "=":
                    answered.add(key)
    return +unsettled, answered


def unsettled(path: Path) -> list[Send]:
    """The sends without a known outcome; some of them may be in flight just now."""
    return list(_read(path)[0].elements())


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False
