"""Jobs that ask for their own word, and running them through the pool against a real server."""

import asyncio
import importlib.util
from dataclasses import dataclass

import pytest

from autointerp.llm.journal.journal import Journal
from autointerp.llm.limits.prices import Price
from autointerp.llm.pool import PoolSettings, Step, run_jobs
from autointerp.llm.request_runner import RetrySettings
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.client import ChatClient
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import CallFailure
from autointerp.llm.wire.request import ChatRequest, ReplySchema

PRICE = Price(1.0, 0.5, 2.0)
DIALECT = Dialect(structured="json_object")
NO_AIOHTTP = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed"
)
TRANSPORTS = ["httpx", pytest.param("aiohttp", marks=NO_AIOHTTP)]


@dataclass(frozen=True)
class Echo:
    """Asks for a word; `then` more of them, one after another, as follow-ups."""

    word: str
    then: int = 0
    attempt: int = 0

    def request(self):
        return ChatRequest(
            model="test-model",
            messages=({"role": "user", "content": self.word},),
            max_tokens=10,
            temperature=0.0,
            schema=ReplySchema("any", {"type": "object"}),
            attempt=self.attempt,
        )

    def reduce(self, outcome):
        if isinstance(outcome, CallFailure):
            return Step(results=[(self.word, outcome.kind)])
        more = [Echo(f"{self.word}+", self.then - 1)] if self.then else []
        return Step(results=[(self.word, outcome.text)], follow_ups=more)


def say_back(request):
    return "re: " + request["messages"][-1]["content"]


@dataclass
class Ran:
    results: list
    totals: PoolTotals
    slept: list
    troubles: list
    events: list


def run(
    servers,
    jobs,
    journal_path,
    *,
    error=None,
    timeout_s=20.0,
    dialect=DIALECT,
    price=PRICE,
    sleep=None,
    during=None,
    transport="httpx",
    max_attempts=6,
    longest_s=900.0,
    **settings,
):
    """Run jobs without waiting out backoffs; `concurrency` is fixed unless bounds are given.

    `during` is awaited beside the run, with its task and the event that stops it.
    """
    results, slept, events, totals, troubles = [], [], [], PoolTotals(), []
    concurrency = settings.setdefault("concurrency", 16)
    settings.setdefault("min_concurrency", min(concurrency, settings.get("max_concurrency", 999)))
    settings.setdefault("max_concurrency", concurrency)
    settings["retry"] = RetrySettings(max_attempts, longest_s)

    async def no_sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    async def main():
        journal = Journal.open(journal_path)
        urls = [s if isinstance(s, str) else s.url for s in _listed(servers)]
        most = settings["max_concurrency"]
        clients = [
            ChatClient(url, "k", timeout_s=timeout_s, max_connections=most, transport=transport)
            for url in urls
        ]
        stop = asyncio.Event()
        running = asyncio.ensure_future(
            run_jobs(
                jobs,
                clients=clients,
                dialect=dialect,
                journal=journal,
                price=price,
                settings=PoolSettings(**settings),
                on_result=results.append,
                on_event=events.append,
                on_retry=lambda: troubles.append(totals.trouble),
                totals=totals,
                stop=stop,
                sleep=sleep or no_sleep,
            )
        )
        try:
            if during is not None:
                await during(running, stop)
            await running
        finally:
            for client in clients:
                await client.close()
            journal.close()

    if error is None:
        asyncio.run(main())
    else:
        with pytest.raises(error[0], match=error[1] or None):
            asyncio.run(main())
    return Ran(results, totals, slept, troubles, events)


def _listed(servers):
    return servers if isinstance(servers, list) else [servers]
