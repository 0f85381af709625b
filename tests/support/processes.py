"""Commands in processes of their own, which can be killed, forked where all is imported already.

Starting Python and importing torch takes three seconds of processor time, forking a hundredth.
"""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKING: ForkServerContext = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["tests.support.preloaded"])


class Command:
    """`autointerp ARGUMENTS`, begun; its standard output and errors go to `log`, if there is one.

    `ready` runs in the process first, with the file descriptors of it open as they will be.
    """

    def __init__(
        self,
        *arguments: str,
        log: Path | None = None,
        ready: Callable[[], None] | None = None,
    ) -> None:
        self._log = log
        self._process: BaseProcess = _FORKING.Process(
            target=_run, args=(arguments, log, dict(os.environ), ready)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status, of a process that a signal ended the signal's number below zero."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def said(self) -> str:
        """What was written to the log so far."""
        return "" if self._log is None else self._log.read_text()


def _run(
    arguments: tuple[str, ...],
    log: Path | None,
    environment: dict[str, str],
    ready: Callable[[], None] | None,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if ready is None:
        into = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(into, 1)
        os.dup2(into, 2)
    else:
        ready()
    # As the interpreter makes them at its start, for what they are now.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    from autointerp.cli import main

    sys.argv = ["autointerp", *arguments]
    try:
        main.main()
    except SystemExit as stopped:
        _end(int(stopped.code or 0))
    except BaseException:
        traceback.print_exc()
        _end(1)
    _end(0)


def _end(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a terminal that was closed
            status = status or 120
    os._exit(status)
