"""The label table while labels come in: what is there so far, for whoever looks."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from autointerp.labeling.labeler import Draft
from autointerp.progress import say

FIRST_S = 5.0
EVERY_S = 30.0
SHARE = 0.02  # of the time, at most, goes into writing


def pause_after(seconds: float) -> float:
    """Seconds to wait after a table that took so many to write."""
    return max(EVERY_S, seconds / SHARE)


@contextmanager
def written_meanwhile(
    pending: Sequence[Draft], write: Callable[[list[Draft]], None]
) -> Iterator[Callable[[Draft], None]]:
    """Takes drafts from any thread; a thread of its own gives all of them to `write` now and then.

    A draft takes the place of its feature's among `pending`. Nothing is written where none has
    come since, and nothing any more once the block ends. A table so far that cannot be written is
    no reason to stop: that is said, once.
    """
    drafts = {draft.feature: draft for draft in pending}
    taken = 0
    ended = threading.Event()

    def take(draft: Draft) -> None:
        nonlocal taken
        drafts[draft.feature] = draft
        taken += 1

    def keep_writing() -> None:
        written, pause = 0, FIRST_S
        while not ended.wait(pause):
            if taken == written:
                continue
            written, began = taken, time.monotonic()
            try:
                write(list(drafts.values()))
            except Exception as error:
                say(f"the partial label table could not be written: {error}; labeling continues")
                return
            pause = pause_after(time.monotonic() - began)

    writer = threading.Thread(target=keep_writing, name="partial label table", daemon=True)
    writer.start()
    try:
        yield take
    finally:
        ended.set()
        writer.join()
