"""What is paid once is paid once, however often and whenever the process is killed."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from autointerp.errors import AutointerpError
from autointerp.llm.journal.in_flight import Send
from autointerp.llm.journal.journal import Journal, Received
from autointerp.llm.journal.journal_file import info
from autointerp.llm.wire.reply import Usage
from tests.support.lives import CONCURRENCY
from tests.support.load_server import Behavior, load_server

ROOT = Path(__file__).parents[2]
JOBS, LIVES = 1000, 100


def test_resuming_after_kill_9_at_any_moment_asks_nothing_again(tmp_path):
    """Faults 53 and, for the journal, 54."""
    path = tmp_path / "journal.sqlite"
    with load_server(Behavior(latency="fixed", mean_s=0.002)) as server:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.support.lives",
                server.url,
                path,
                str(JOBS),
                str(LIVES),
                "1",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        seen = server.stats()
    told = json.loads(done.stdout)
    results = told["results"]
    assert sorted(results) == sorted([f"w{i}", f"re: w{i}"] for i in range(JOBS))
    # Not vacuous: the lives got some way, and were killed with requests under way.
    assert told["sends"] > LIVES
    assert told["known_before_the_last"] > 0
    assert told["killed_early"] > 0
    assert told["open_at_kills"] > LIVES
    # No life asked for what the journal held when it began.
    assert told["asked_again"] == 0
    assert told["requests"] == JOBS - told["known_before_the_last"]
    # What was paid twice was on its way at a kill, and is told.
    found = info(path)
    doubles = seen["served"] - seen["distinct"]
    assert seen["distinct"] == JOBS == found.replies
    assert told["most_open"] <= 2 * CONCURRENCY
    # Dying just after the doubts of the life before were taken up counts those again.
    again = 2 * CONCURRENCY * told["killed_early"]
    assert doubles <= found.unconfirmed <= told["open_at_kills"] + again
    assert seen["requests"] <= JOBS + found.unconfirmed
    assert told["unconfirmed"] == 0
    print(
        f"{doubles} doubles, {found.unconfirmed} unconfirmed, "
        f"{told['open_at_kills']} open at the kills, "
        f"{told['killed_early']} killed early, {told['sends']} sends before the last life"
    )


def test_a_doubt_outlasts_the_rewriting_of_the_sends(tmp_path, monkeypatch):
    """A request was sent twice and answered once: the other may be billed too."""
    path = tmp_path / "journal.sqlite"
    journal = Journal.open(path)
    send = Send("k", 0.5)
    journal.sending(send)
    journal.sending(send)
    asyncio.run(journal.put(Received("k", "m", b"{}", Usage(), 0.1)))
    journal.settle(send, answered=True)
    monkeypatch.setattr("autointerp.llm.journal.in_flight._MAX_BYTES", 10)
    journal.sending(Send("other", 0.25))
    journal.close()
    again = Journal.open(path)
    assert len(again.take_up_unconfirmed()) == 2
    assert again.spent_usd() == 0.1 + 0.5 + 0.25
    again.close()


def test_a_request_sent_in_two_forms_is_in_doubt_in_one(tmp_path, monkeypatch):
    """With and without the numbers in its schema it is one request, at two worst costs."""
    path = tmp_path / "journal.sqlite"
    journal = Journal.open(path)
    first, second = Send("k", 0.5), Send("k", 0.25)
    journal.sending(first)
    journal.sending(second)
    asyncio.run(journal.put(Received("k", "m", b"{}", Usage(), 0.1)))
    journal.settle(second, answered=True)
    monkeypatch.setattr("autointerp.llm.journal.in_flight._MAX_BYTES", 10)
    journal.sending(Send("other", 0.0))
    journal.close()
    again = Journal.open(path)
    again.take_up_unconfirmed()
    assert again.spent_usd() == 0.1 + 0.5
    again.close()


def test_doubts_are_taken_up_all_or_none(tmp_path, monkeypatch):
    """A process that dies between them would leave those behind it to be counted twice."""
    journal = Journal.open(tmp_path / "journal.sqlite")
    for name in "abc":
        journal.sending(Send(name, 0.5))
    left = [*journal._in_flight.unsettled(), Send("breaks", object())]
    with monkeypatch.context() as patch:
        patch.setattr(journal._in_flight, "unsettled", lambda: left)
        with pytest.raises(AutointerpError):
            journal.take_up_unconfirmed()
    assert journal.spent_usd() == 0
    assert len(journal.take_up_unconfirmed()) == 3
    assert journal.spent_usd() == 1.5
    journal.close()
