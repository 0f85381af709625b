"""The labeling model of a run: the endpoint, its checks, its estimates, and sending."""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from autointerp.config import RunConfig
from autointerp.errors import UserError
from autointerp.job import Job
from autointerp.llm.client import ChatClient, preflight
from autointerp.llm.journal import Journal
from autointerp.llm.pool import Job as PoolJob
from autointerp.llm.pool import PoolSettings, PoolTotals, run_jobs
from autointerp.llm.prices import Price, price_of
from autointerp.progress import Tracker, say
from autointerp.runs import fingerprint

R = TypeVar("R")
_CHARACTERS_A_TOKEN = 3.5
_TROUBLE = 60  # characters of a server's complaint beside the bar
_NO_KEY_NEEDED = {"localhost", "127.0.0.1", "::1"}


def model_name(config: RunConfig) -> str:
    assert config.model is not None
    return config.model


def identity(config: RunConfig) -> str:
    """What decides a reply, apart from the prompt."""
    return fingerprint(
        model=config.model,
        base_url=config.base_url,
        temperature=config.temperature,
        response_format=config.response_format,
    )


def api_key(config: RunConfig) -> str:
    """The key from the environment; a server on this machine may do without one."""
    key = os.environ.get(config.api_key_env, "").strip()
    if key:
        return key
    if urlsplit(config.base_url).hostname in _NO_KEY_NEEDED:
        return "none"
    raise UserError(
        f"no key for {config.base_url}: set the environment variable {config.api_key_env}, "
        "or name another with --api-key-env"
    )


def check_endpoint(config: RunConfig) -> None:
    """Raise UserError where the key is missing, the endpoint unreachable or the model unknown."""
    asyncio.run(
        preflight(
            config.base_url,
            api_key(config),
            model_name(config),
            timeout_s=min(config.timeout, 30.0),
        )
    )


def price(config: RunConfig) -> Price | None:
    return price_of(model_name(config), config.input_price, config.output_price)


def is_priced(config: RunConfig) -> bool:
    """Whether costs can be known: no model costs nothing, a model needs a price."""
    return not config.uses_model() or price(config) is not None


@dataclass(slots=True)
class Estimate:
    """What a stage would send: counted, not sent."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, prompt_characters: int, completion_tokens: int) -> None:
        self.requests += 1
        self.prompt_tokens += round(prompt_characters / _CHARACTERS_A_TOKEN)
        self.completion_tokens += completion_tokens

    def line(self, stage: str, config: RunConfig) -> str:
        known = price(config)
        if known is None:
            cost = f"cost unknown (no price for {config.model}: give --input-price, --output-price)"
        else:
            dollars = (
                self.prompt_tokens * known.input + self.completion_tokens * known.output
            ) / 1e6
            cost = f"about ${dollars:,.4f}"
        return (
            f"{stage}: {self.requests:,} requests, about {self.prompt_tokens:,} prompt and "
            f"{self.completion_tokens:,} completion tokens, {cost}"
        )


def totals_note(totals: PoolTotals, priced: bool) -> str:
    """Requests, retries, spend and present trouble in a few words."""
    spend = f"${totals.cost_usd:,.4f}" if priced else "price unknown"
    trouble = f", trying again: {totals.trouble[:_TROUBLE]}" if totals.trouble else ""
    return (
        f"{totals.requests:,} requests, {totals.from_journal:,} from the journal, "
        f"{totals.retries:,} retries, {spend}{trouble}"
    )


def ask(
    job: Job, jobs: Iterable[PoolJob[R]], on_result: Callable[[R], None], progress: Tracker
) -> PoolTotals:
    """Send the jobs through the pool and the run's journal; returns the totals."""
    config = job.config
    known_price = price(config)
    totals = PoolTotals()

    def note() -> None:
        progress.note(totals_note(totals, known_price is not None))

    def received(result: R) -> None:
        on_result(result)
        note()

    async def send_all() -> None:
        journal = Journal.open(job.run.journal)
        in_doubt = journal.forget_in_doubt()
        if in_doubt:
            say(f"{in_doubt} requests sent earlier were never answered: they may be paid twice")
        client = ChatClient(
            config.base_url,
            api_key(config),
            timeout_s=config.timeout,
            max_connections=config.concurrency + 8,
        )
        try:
            await run_jobs(
                jobs,
                send=client,
                journal=journal,
                price=known_price,
                settings=PoolSettings(
                    concurrency=config.concurrency,
                    requests_per_minute=config.requests_per_minute,
                    max_attempts=config.max_attempts,
                ),
                on_result=received,
                on_retry=note,
                totals=totals,
            )
        finally:
            await client.close()
            journal.close()

    asyncio.run(send_all())
    return totals
