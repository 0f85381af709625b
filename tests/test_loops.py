"""Asynchronous work begun from anywhere, and stopped from anywhere."""

import asyncio
import os
import signal
import threading

import pytest

from autointerp.loops import Beside, run_coroutine, stop_event


async def thread_of_work() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


def test_a_loop_of_its_own_where_one_is_running():
    async def inside() -> int:
        return run_coroutine(thread_of_work())

    here = threading.get_ident()
    assert run_coroutine(thread_of_work()) == here
    assert asyncio.run(inside()) != here


def test_what_fails_fails_alike():
    async def fails() -> None:
        raise ValueError("why")

    async def inside() -> None:
        run_coroutine(fails())

    with pytest.raises(ValueError, match="why"):
        run_coroutine(fails())
    with pytest.raises(ValueError, match="why"):
        asyncio.run(inside())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_heard_and_their_handlers_put_back(number, capsys):
    async def waits() -> bool:
        with stop_event("stopping now") as stop:
            os.kill(os.getpid(), number)
            await stop.wait()
            return True

    before = signal.signal(number, lambda *_: None)
    try:
        mine = signal.getsignal(number)
        assert run_coroutine(waits())
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)
    assert "stopping now" in capsys.readouterr().err


def test_the_second_interruption_does_not_wait(capsys):
    begun, heard = threading.Event(), threading.Event()

    async def never_ends() -> None:
        with stop_event("stopping") as stop:
            begun.set()
            await stop.wait()
            heard.set()
            await asyncio.Event().wait()

    work = Beside(lambda: run_coroutine(never_ends()))
    assert begun.wait(10)
    work.interrupt()
    assert heard.wait(10)
    work.interrupt()
    with pytest.raises(KeyboardInterrupt):
        work.result()


def test_work_that_is_not_asynchronous_is_interrupted():
    begun = threading.Event()

    def computes() -> None:
        begun.set()
        while True:
            sum(range(100))

    work = Beside(computes)
    assert begun.wait(10)
    work.interrupt()
    with pytest.raises(KeyboardInterrupt):
        work.result()


def test_the_outcome_is_awaited_and_cancelled():
    async def use() -> int:
        assert await Beside(lambda: 3).outcome() == 3
        begun = threading.Event()

        async def endless() -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(Beside(lambda: run_coroutine(endless())).outcome())
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return 1

    assert asyncio.run(use()) == 1
