"""Asynchronous work, begun from anywhere: a script, a notebook whose loop runs already, a thread.

Signals reach the main thread alone. Work in another thread is stopped by `interrupt`, as Ctrl-C
stops it in the main one: what is asynchronous is asked to stop, anything else is interrupted.
"""

import asyncio
import ctypes
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from autointerp.progress import let_go_of_closed_output, say

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# By thread, what is done there in place of an interruption; the last of them counts.
_HEARING: dict[int, list[Callable[[], None]]] = {}


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns; in a thread of its own where a loop is running in this one.

    Raises KeyboardInterrupt where it was cancelled from without.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    return Beside(lambda: _run(work)).result()


def _run(work: Coroutine[Any, Any, T]) -> T:
    with _handlers_kept():
        try:
            return asyncio.run(_stoppable(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def _stoppable(work: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    with heard(lambda: loop.call_soon_threadsafe(task.cancel)):
        return await work


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """A loop that hears signals leaves their handlers as they are by default, not as they were."""
    before = {n: signal.getsignal(n) for n in _SIGNALS} if _in_main_thread() else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def stop_event(said: str) -> Iterator[asyncio.Event]:
    """Set at the first Ctrl-C, SIGTERM or hangup, or `interrupt` of this thread, which is `said`.

    The second cancels the task that called this. Signals reach the main thread alone. A hangup
    that is ignored, as `nohup` has it, stays ignored.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    main = asyncio.current_task()
    assert main is not None

    def hear() -> None:
        if stop.is_set():
            main.cancel()
            return
        stop.set()
        let_go_of_closed_output()
        say(said)

    if _in_main_thread():
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, hear)
    with heard(lambda: loop.call_soon_threadsafe(hear)):
        yield stop


def stoppable(stop: asyncio.Event) -> Callable[[float], Awaitable[None]]:
    """A sleep that ends early when the run is asked to stop."""

    async def sleep(seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()

    return sleep


@contextmanager
def heard(hear: Callable[[], Any]) -> Iterator[None]:
    """`interrupt` of this thread calls `hear`, in whatever thread, as long as the block runs."""
    hearing = _HEARING.setdefault(threading.get_ident(), [])
    hearing.append(hear)
    try:
        yield
    finally:
        hearing.remove(hear)


def interrupt(thread: int) -> None:
    """Stop what is done in the thread: it hears of it, or has a KeyboardInterrupt raised."""
    hearing = _HEARING.get(thread)
    if hearing:
        hearing[-1]()
    else:
        stop = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), stop)


class Beside(Generic[T]):
    """A function at work in a thread of its own."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._found: T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="autointerp", daemon=True)
        self._ended = threading.Event()
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._work()
        except BaseException as error:
            self._error = error
        finally:
            _HEARING.pop(threading.get_ident(), None)
            self._ended.set()

    def interrupt(self) -> None:
        ident = self._thread.ident
        if ident is not None and not self._ended.is_set():
            interrupt(ident)

    def result(self) -> T:
        """What the function returns or raises. Ctrl-C here is handed on, and waited for."""
        while not self._ended.is_set():
            try:
                self._ended.wait()
            except KeyboardInterrupt:
                self.interrupt()
        if self._error is None:
            return self._found
        raise self._error

    async def outcome(self) -> T:
        """The same without holding up the caller's loop; canceling it stops the function, and
        waits until it has written what it has."""
        loop = asyncio.get_running_loop()
        cancelled: asyncio.CancelledError | None = None
        while True:
            waiting = loop.run_in_executor(None, self._ended.wait)
            try:
                await asyncio.shield(waiting)
                break
            except asyncio.CancelledError as error:
                cancelled = error
                self.interrupt()
        if cancelled is not None:
            raise cancelled
        return self.result()
