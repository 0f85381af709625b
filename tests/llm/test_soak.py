"""A hundred thousand requests with mixed faults: exact counts, and nothing that grows."""

import asyncio
import gc
import os
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.journal_file import info
from autointerp.llm.pool import PoolSettings, Step, run_jobs
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.client import ChatClient
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import ChatReply
from autointerp.llm.wire.request import ChatRequest
from tests.support.load_server import Behavior, load_server

REQUESTS = 100_000
WARM = 10_000  # by then every buffer and cache has its size
EVERY = 10_000  # requests between looks at what the process holds
MAX_GROWN_MB = 10
MAX_CONNECTIONS = 64
MAX_OTHER_FILES = 16  # of the journal, and of connections that are just being closed
FAULTS = Behavior(
    rate_limited=0.02,
    server_error=0.01,
    overloaded=0.005,
    dropped=0.005,
    half=0.002,
    hang=0.0001,
    empty=0.002,
    html=0.002,
    malformed=0.005,
    length=0.005,
    refusal=0.005,
    blank_lines=0.005,
)


@dataclass(frozen=True, slots=True)
class Number:
    n: int

    def request(self):
        message = {"role": "user", "content": str(self.n)}
        return ChatRequest("test-model", (message,), max_tokens=10)

    def reduce(self, outcome):
        if not isinstance(outcome, ChatReply):
            return Step(results=[(self.n, outcome.kind)])
        answer = f"re: {self.n}"
        kind = "wrong"
        if outcome.declined:
            kind = "refused"
        elif outcome.text == answer:
            kind = "whole"
        elif outcome.text == answer[: len(answer) // 2]:
            kind = "cut"
        return Step(results=[(self.n, kind)])


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.soak
def test_58_a_soak_with_mixed_faults(tmp_path):
    path = tmp_path / "journal.sqlite"
    seen = bytearray(REQUESTS)  # how many results each job has
    kinds: dict[str, int] = {}
    memory: dict[int, float] = {}
    files: dict[int, int] = {}
    totals = PoolTotals()

    def on_result(result):
        n, kind = result
        seen[n] += 1
        kinds[kind] = done = kinds.get(kind, 0) + 1
        done = sum(kinds.values())
        if done % EVERY == 0:
            gc.collect()
            memory[done], files[done] = resident_mb(), open_files()

    async def no_sleep(_seconds):
        await asyncio.sleep(0)

    async def main(url):
        tasks, files[0] = len(asyncio.all_tasks()), open_files()
        journal = Journal.open(path)
        client = ChatClient(
            url, "k", timeout_s=5, max_connections=MAX_CONNECTIONS, transport="aiohttp"
        )
        await run_jobs(
            (Number(n) for n in range(REQUESTS)),
            clients=[client],
            dialect=Dialect(),
            journal=journal,
            price=None,
            settings=PoolSettings(MAX_CONNECTIONS, MAX_CONNECTIONS, MAX_CONNECTIONS),
            on_result=on_result,
            totals=totals,
            sleep=no_sleep,
        )
        await client.close()
        journal.close()
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == tasks
        assert open_files() == files[0]

    with load_server(FAULTS) as server:
        began = time.monotonic()
        asyncio.run(main(server.url))
        took = time.monotonic() - began
        counts = server.stats()
    print(f"{counts['requests'] / took:.0f} requests/s, resident MB {memory}, open files {files}")
    # Every job ended in exactly one result, and that is its own.
    assert seen == b"\1" * REQUESTS
    faults = Counter(counts["by_fault"])
    odd = {"cut": faults["malformed"] + faults["length"], "refused": faults["refusal"]}
    assert kinds == {"whole": counts["served"]} | odd
    # What the server counted, what the pool counted, and what the journal holds, is the same.
    found = info(path)
    unreadable = faults["empty"] + faults["html"]
    lost = sum(faults[name] for name in ("server_error", "dropped", "half", "hang"))
    retried = unreadable + lost + faults["rate_limited"] + faults["overloaded"]
    assert counts["requests"] == REQUESTS + retried
    assert (totals.requests, totals.unreadable, totals.unconfirmed) == (REQUESTS, unreadable, lost)
    assert (totals.retries, totals.rate_limited) == (retried, faults["rate_limited"])
    assert (found.replies, found.unreadable, found.unconfirmed) == (REQUESTS, unreadable, lost)
    assert counts["most_served"] == 1
    assert (totals.failures, totals.in_flight, totals.from_journal) == (0, 0, 0)
    later = [done for done in memory if done > WARM]
    assert len(later) == (REQUESTS - WARM) // EVERY
    assert max(memory[done] for done in later) - memory[WARM] < MAX_GROWN_MB
    # Connections and a few files of the journal, as many at the end as at the beginning.
    assert max(files.values()) <= files[0] + MAX_CONNECTIONS + MAX_OTHER_FILES
