"""The labeling model of a run: its endpoints are checked once, then jobs are sent to them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError, ConfigurationError
from autointerp.llm.batches import BatchRun, BatchSettings
from autointerp.llm.journal.in_flight import Send
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.llm.pool import Drained, PoolJob, PoolSettings, run_jobs
from autointerp.llm.preflight import preflight
from autointerp.llm.probe import Probe, probe
from autointerp.llm.request_runner import RetrySettings
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.client import ChatClient, Client, connections_allowed
from autointerp.loops import run_coroutine, stop_event, stoppable
from autointerp.plain_text import counted
from autointerp.progress import Tracker, say
from autointerp.resources import local_model, model_facts
from autointerp.runs.directory import Run

R = TypeVar("R")
_TROUBLE = 60  # characters of a server's complaint beside the bar
_PREFLIGHT_S = 30.0


@dataclass(frozen=True)
class Answered:
    """What came of asking; `stopped` is what ended it early, to be raised once all is written."""

    totals: PoolTotals
    stopped: BaseException | None = None


@dataclass(frozen=True)
class LanguageModel:
    """The model that labels or judges, with what it is asked by: the run's pool and journal.

    `endpoints` are the addresses and keys of those that answer and know the model; `device` is
    where a model of this process computes.
    """

    config: RunConfig
    run: Run
    device: torch.device | None
    endpoints: Sequence[tuple[str, str]]

    def ask(
        self,
        make_jobs: Callable[[], Iterable[PoolJob[R]]],
        on_result: Callable[[R], None],
        progress: Tracker,
        *,
        beside_a_batch: bool = False,
    ) -> Answered:
        """Send the jobs to the endpoints, through the pool and the run's journal.

        Where asking ends early, by Ctrl-C or because the endpoint rejects requests, what came is
        kept and the reason is in the result. `beside_a_batch`: a pending batch does not have these
        requests. May be called in any thread.
        """
        config = self.config
        totals = PoolTotals()

        def note() -> None:
            progress.note(totals_note(totals, config))

        def received(result: R) -> None:
            on_result(result)
            note()

        async def send_all() -> None:
            settings = _pool_settings(config, self.device)
            dialect, price = model_facts.dialect(config), model_facts.price(config)
            journal = Journal.open(self.run.journal)
            clients: list[Client] = []
            try:
                self._look_into(journal, beside_a_batch)
                for url, key in self.endpoints:
                    most = settings.max_concurrency
                    clients.append(_client(config, self.device, url, key, most))
                with stop_event(_stopping_line(settings.drain_s)) as stop:
                    if config.batch:
                        batches = BatchSettings(price, config.budget)
                        (endpoint,) = clients
                        assert isinstance(endpoint, ChatClient), "a local model takes no batches"
                        filling = BatchRun(
                            endpoint, dialect, journal, batches, say, stop, stoppable(stop)
                        )
                        await filling.fill(make_jobs)
                    await run_jobs(
                        make_jobs(),
                        clients=clients,
                        dialect=dialect,
                        journal=journal,
                        price=price,
                        settings=settings,
                        on_result=received,
                        on_event=say,
                        on_retry=note,
                        totals=totals,
                        stop=stop,
                    )
            finally:
                for client in clients:
                    await client.close()
                journal.close()

        try:
            run_coroutine(send_all())
        except (Drained, asyncio.CancelledError, KeyboardInterrupt):
            return Answered(totals, KeyboardInterrupt())
        except AutointerpError as error:
            return Answered(totals, error)
        return Answered(totals)

    def _look_into(self, journal: Journal, beside_a_batch: bool) -> None:
        """Report what an earlier run left in flight. Raises AutointerpError for a pending batch."""
        config = self.config
        unconfirmed = journal.take_up_unconfirmed()
        if unconfirmed and not config.is_local():
            say(_unconfirmed_line(unconfirmed, model_facts.is_priced(config)))
        if not (config.batch or beside_a_batch) and journal.pending_batches():
            raise ConfigurationError(
                f"{self.run.path} has a pending batch: rerun with --batch to collect it, or its "
                "requests will be paid for twice"
            )


def open_model(config: RunConfig, run: Run, device: torch.device | None) -> LanguageModel:
    """The model, with the endpoints that answer and know it.

    Raises AutointerpError where a key or a price is missing, or no endpoint answers.
    """
    model_facts.price(config)
    if config.budget is not None and not model_facts.is_priced(config):
        raise ConfigurationError(
            f"a budget needs a price, and none is known for {config.model}: pass --input-price and "
            "--output-price, or --prices"
        )
    found = model_facts.endpoints(config)
    if config.is_local():
        return LanguageModel(config, run, device, found)
    errors, good = [], []
    for url, key in found:
        checking = preflight(
            url,
            key,
            model_facts.model_name(config),
            timeout_s=min(config.timeout, _PREFLIGHT_S),
            follow_redirects=config.follow_redirects,
        )
        try:
            run_coroutine(checking)
            good.append((url, key))
        except AutointerpError as error:
            errors.append(error)
    if not good:
        raise errors[0]
    for reason in errors:
        say(f"{reason}; continuing with the others")
    return LanguageModel(config, run, device, good)


def totals_note(totals: PoolTotals, config: RunConfig) -> str:
    """Requests, retries, spend and present trouble in a few words."""
    if config.is_local():
        spend = f"{totals.completion_tokens:,} tokens written"
    elif not model_facts.is_priced(config):
        spend = "price unknown"
    elif config.budget is None:
        spend = f"${totals.cost_usd:,.4f}"
    else:
        spend = f"${totals.spent_usd:,.4f} of ${config.budget:,.2f}"
    trouble = f", trying again: {totals.trouble[:_TROUBLE]}" if totals.trouble else ""
    unread = f", {totals.unread:,} replies of no use" if totals.unread else ""
    cached = ""
    if totals.cached_tokens:
        cached = f", {totals.cached_tokens / max(1, totals.prompt_tokens):.0%} of prompts cached"
    return (
        f"{totals.requests:,} requests, {totals.from_journal:,} from the journal, "
        f"{totals.in_flight} of {totals.limit} in flight, {totals.retries:,} retries, "
        f"{spend}{cached}{unread}{trouble}"
    )


def diagnose(model: LanguageModel) -> list[tuple[str, Probe]]:
    """What each endpoint can do; what it does not take is remembered in the run's journal."""
    config, name = model.config, model_facts.model_name(model.config)
    dialect = model_facts.dialect(config)

    async def probe_all() -> list[tuple[str, Probe]]:
        found = []
        for url, key in model_facts.endpoints(config):
            client = _client(config, model.device, url, key, connections=1)
            try:
                found.append((url, await probe(client, dialect, name)))
            finally:
                await client.close()
        return found

    with model.run.locked():
        found = run_coroutine(probe_all())
        journal = Journal.open(model.run.journal)
        # One dialect for all: what any of them does not take is not sent.
        dropped = tuple(dict.fromkeys(name for _, one in found for name in one.dialect.dropped))
        cache = ReplyCache(journal, model_facts.address(config), dialect)
        cache.drop(name, dropped)
        journal.close()
    return found


def _client(
    config: RunConfig, device: torch.device | None, url: str, key: str, connections: int
) -> Client:
    """What takes requests for the endpoint.

    Raises AutointerpError where a model cannot be loaded.
    """
    if config.is_local():
        assert device is not None
        return local_model.open_client(config, device)
    return ChatClient(
        url,
        key,
        timeout_s=config.timeout,
        max_connections=connections,
        transport=config.transport,
        follow_redirects=config.follow_redirects,
    )


def _pool_settings(config: RunConfig, device: torch.device | None) -> PoolSettings:
    if config.is_local():
        assert device is not None
        # While one batch is answered the next is gathered.
        most = 2 * local_model.rows(config, device)
        return PoolSettings(most, most, most, drain_s=config.timeout)
    urls = len(config.base_urls())
    allowed = max(1, connections_allowed(config.most_concurrent() * urls) // urls)
    most = min(config.most_concurrent(), allowed)
    if most < config.most_concurrent():
        say(
            f"this system allows {allowed} simultaneous connections: concurrency is limited to that"
        )
    return PoolSettings(
        concurrency=min(config.start_concurrency(), most),
        min_concurrency=min(config.min_concurrency, most),
        max_concurrency=most,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
        retry=RetrySettings(max_attempts=config.max_attempts),
        budget_usd=config.budget,
        drain_s=config.timeout,
    )


def _stopping_line(drain_s: float) -> str:
    return (
        f"stopping: waiting up to {drain_s:.0f} s for requests in flight (Ctrl-C again to abandon "
        "them)"
    )


def _unconfirmed_line(unconfirmed: Sequence[Send], priced: bool) -> str:
    """What is to be known of requests that a run which died had in flight.

    Endpoints that keep records (OpenRouter does) find them by the id of a reply, and a request in
    flight has none yet: nobody can be asked what became of it.
    """
    worst = sum(send.worst_usd for send in unconfirmed)
    cost = f"at most ${worst:,.4f}, which counts as spent" if priced else "an unknown amount"
    return (
        f"{counted(len(unconfirmed), 'request')} sent earlier without a recorded reply may have "
        f"cost {cost}; retrying"
    )
