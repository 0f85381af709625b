"""Progress of long work: a bar on a terminal or in a notebook, plain lines elsewhere."""

import importlib.util
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autointerp.plain_text import line_for_person

_PLAIN_EVERY_S = 15.0
console = Console(stderr=True, highlight=False)
_DRAWING = threading.Lock()


class Tracker(Protocol):
    def advance(self, n: int = 1) -> None: ...

    def skip(self, n: int) -> None:
        """Advance over what was done before: it tells nothing of the rate."""

    def note(self, text: str) -> None:
        """A few words beside the bar, such as retries and spend."""


class _Bar:
    def __init__(self, progress: Progress, description: str, total: int, unit: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, unit=unit, rate="", note="")
        self._began = time.monotonic()
        self._done = 0

    def advance(self, n: int = 1) -> None:
        self._done += n
        elapsed = max(time.monotonic() - self._began, 1e-6)
        self._progress.update(self._task, advance=n, rate=f"{self._done / elapsed:,.0f}")

    def skip(self, n: int) -> None:
        self._progress.update(self._task, advance=n)

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=line_for_person(text))


class _Lines:
    def __init__(self, description: str, total: int, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._began = self._last = time.monotonic()
        self._done = self._skipped = 0
        self._note = ""

    def advance(self, n: int = 1) -> None:
        self._done += n
        self._now_and_then()

    def skip(self, n: int) -> None:
        self._done += n
        self._skipped += n

    def note(self, text: str) -> None:
        self._note = line_for_person(text)
        self._now_and_then()

    def _now_and_then(self) -> None:
        if time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self.line()

    def line(self, *, ended: bool = False) -> None:
        elapsed = max(time.monotonic() - self._began, 1e-6)
        rate = (self._done - self._skipped) / elapsed
        timing = f"in {elapsed:.1f} s"
        if not ended and rate > 0 and self._done < self._total:
            timing = f"{(self._total - self._done) / rate:.0f} s left"
        parts = [
            f"{self._description}: {self._done:,} of {self._total:,} {self._unit}",
            f"{rate:,.0f}/s",
            timing,
            self._note,
        ]
        print(", ".join(p for p in parts if p), file=sys.stderr, flush=True)


def _draws_bars() -> bool:
    """On a terminal and, with its widgets, in a notebook."""
    widgets = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal or widgets


@contextmanager
def track(description: str, total: int, unit: str) -> Iterator[Tracker]:
    """Shows how far `description` is: `unit`s done of `total`, per second, time left."""
    # Where several runs are under way, bars would be drawn over one another.
    if not (_draws_bars() and _DRAWING.acquire(blocking=False)):
        lines = _Lines(description, total, unit)
        yield lines
        lines.line(ended=True)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}  {task.fields[rate]}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        # What a server says is not markup.
        TextColumn("{task.fields[note]}", markup=False),
    )
    try:
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, description, total, unit)
    finally:
        _DRAWING.release()


def let_go_of_closed_output() -> None:
    """Send output to nowhere where its terminal or pipe is gone, as after a hangup.

    Whatever else is said could not be written, and would fail in the middle of the work.
    """
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)  # asks for nothing but what is always told: that it is gone
    gone = [number for number, _ in poll.poll(0)]
    if gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in gone:
            os.dup2(nowhere, number)
        os.close(nowhere)


def say(text: str) -> None:
    """One plain line for the person at the terminal."""
    console.print(line_for_person(text), markup=False, soft_wrap=True)
