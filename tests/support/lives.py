"""Runs a pool over the same jobs in one process after another, each killed while it works.

`python -m tests.support.lives URL JOURNAL JOBS LIVES SEED` prints, as JSON, what came of them. It
is a program of its own because only a process without threads may be forked at any moment.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from autointerp.llm.journal.in_flight import Send
from autointerp.llm.journal.journal import Journal, Received
from autointerp.llm.limits.prices import Price
from autointerp.llm.pool import PoolSettings, Step, run_jobs
from autointerp.llm.request_runner import Outcome
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.client import ChatClient
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import ChatReply
from autointerp.llm.wire.request import ChatRequest

CONCURRENCY = 16
EARLY_SHARE = 0.1  # of the lives end while they begin
EARLY_S = 0.005
MAX_EVENTS = 32  # requests sent and replies kept, after which a life is killed
MOMENT_S = 0.003  # at most, so that kills fall between events as well


@dataclass(frozen=True)
class Word:
    word: str

    def request(self) -> ChatRequest:
        return ChatRequest("test-model", ({"role": "user", "content": self.word},), max_tokens=10)

    def reduce(self, outcome: Outcome) -> Step[tuple[str, str]]:
        text = outcome.text if isinstance(outcome, ChatReply) else outcome.kind
        return Step(results=[(self.word, text)])


async def live(client: ChatClient, path: Path, jobs: list[Word], ready: int) -> list[object]:
    """One run to its end: its results, and what the journal thinks was spent.

    Writes a byte to `ready` when it begins, and another for each request that is sent and for each
    reply that is kept.
    """
    journal = Journal.open(path)
    journal.take_up_unconfirmed()
    os.write(ready, b"+")
    sending, put = journal.sending, journal.put

    def counted_sending(send: Send) -> None:
        sending(send)
        os.write(ready, b">")

    async def counted_put(received: Received) -> None:
        await put(received)
        os.write(ready, b"<")

    journal.sending, journal.put = counted_sending, counted_put  # type: ignore[method-assign]
    results: list[object] = []
    totals = PoolTotals()
    await run_jobs(
        jobs,
        clients=[client],
        dialect=Dialect(),
        journal=journal,
        price=Price(1.0, 1.0, 1.0),
        settings=PoolSettings(CONCURRENCY, CONCURRENCY, CONCURRENCY),
        on_result=results.append,
        totals=totals,
    )
    journal.close()
    await client.close()
    return [results, totals.requests, totals.unconfirmed, totals.spent_usd]


def kept(path: Path) -> set[str]:
    """The keys whose reply is in the journal."""
    with closing(sqlite3.connect(path)) as read:
        return {key for (key,) in read.execute("SELECT key FROM replies")}


def sent(path: Path) -> tuple[list[str], int]:
    """The keys sent since the doubts were last taken up, and how many have no outcome."""
    lines = [line.split() for line in path.with_suffix(".sends").read_text().splitlines()]
    keys = [key for sign, key, _ in lines if sign == "+"]
    return keys, 2 * len(keys) - len(lines)


def main() -> None:
    url, path = sys.argv[1], Path(sys.argv[2])
    n, lives, seed = map(int, sys.argv[3:])
    draw = random.Random(seed)
    jobs = [Word(f"w{i}") for i in range(n)]
    # Made once: that takes longer than many a life. It has no connection yet.
    client = ChatClient(url, "k", timeout_s=10, max_connections=CONCURRENCY)
    Journal.open(path).close()
    told = {"asked_again": 0, "sends": 0, "open_at_kills": 0, "most_open": 0, "killed_early": 0}

    def one_life(*, early: bool) -> None:
        # Another order each time, so that a life finds new jobs early in it.
        draw.shuffle(jobs)
        known = kept(path)
        begun, ready = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(live(client, path, jobs, ready))
            os._exit(1)  # it should not have come to its end
        os.close(ready)
        if early:
            time.sleep(draw.uniform(0, EARLY_S))
        else:
            for _ in range(1 + draw.randint(0, MAX_EVENTS)):
                os.read(begun, 1)
            time.sleep(draw.uniform(0, MOMENT_S))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise RuntimeError(f"a life ended by itself, with status {status}")
        # What an earlier life left in the file is cleared before it says that it is ready.
        if early and not os.read(begun, 1):
            told["killed_early"] += 1
        else:
            keys, unsettled = sent(path)
            told["asked_again"] += len(known & set(keys))
            told["sends"] += len(keys)
            told["open_at_kills"] += unsettled
            told["most_open"] = max(told["most_open"], unsettled)
        os.close(begun)

    for _ in range(lives):
        one_life(early=draw.random() < EARLY_SHARE)
    while not told["killed_early"]:  # how long a beginning takes is the machine's to say
        one_life(early=True)
    told["known_before_the_last"] = len(kept(path))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    results, requests, unconfirmed, spent_usd = asyncio.run(live(client, path, jobs, nowhere))
    last = {
        "results": results,
        "requests": requests,
        "unconfirmed": unconfirmed,
        "spent_usd": spent_usd,
    }
    print(json.dumps(told | last))


if __name__ == "__main__":
    main()
