"""The labeling model of a run: its endpoints and keys, their checks, and sending jobs to them."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError, ConfigurationError
from autointerp.held import is_held
from autointerp.identity import fingerprint
from autointerp.llm.batches import BatchRun, BatchSettings
from autointerp.llm.journal.in_flight import Send
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.llm.limits.prices import Price, price_of, read_prices
from autointerp.llm.local.local_client import LOCAL
from autointerp.llm.pool import Drained, PoolJob, PoolSettings, run_jobs
from autointerp.llm.preflight import preflight
from autointerp.llm.probe import Probe, probe
from autointerp.llm.request_runner import RetrySettings
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.client import ChatClient, Client, connections_allowed
from autointerp.llm.wire.dialect import Dialect, dialect_for
from autointerp.llm.wire.logprobs import PARAMETERS
from autointerp.loops import run_coroutine, stop_event, stoppable
from autointerp.progress import Tracker, say
from autointerp.resources import local_model
from autointerp.runs.session import Session
from autointerp.secrets import hide

R = TypeVar("R")
_TROUBLE = 60  # characters of a server's complaint beside the bar
_NO_KEY_NEEDED = {"localhost", "127.0.0.1", "::1"}
_PREFLIGHT_S = 30.0


def model_name(config: RunConfig) -> str:
    if config.is_local():
        return local_model.model_name(config)
    assert config.model is not None
    return config.model


def address(config: RunConfig) -> str:
    """Where the model is asked, as the journal knows it: the first of several endpoints."""
    return LOCAL if config.is_local() else config.base_urls()[0]


def identity(config: RunConfig) -> str:
    """What decides a reply, apart from the prompt. The first endpoint stands for all of them."""
    return fingerprint(
        model=model_name(config),
        base_url=address(config),
        temperature=config.temperature,
        response_format=config.response_format,
        thinking=config.thinking,
        extra_body=config.extra_parameters(),
    )


def endpoints(config: RunConfig) -> list[tuple[str, str]]:
    """Base URL and key of each; a server on this machine may do without a key.

    A model of this process has neither. Raises AutointerpError where a key, or the model, is
    missing.
    """
    if config.is_local():
        local_model.check(config)
        return [(LOCAL, "")]
    urls, variables = config.base_urls(), config.key_variables()
    found = []
    for url, variable in zip(urls, variables * len(urls), strict=False):
        key = os.environ.get(variable, "").strip()
        hide(key)
        if not key and urlsplit(url).hostname not in _NO_KEY_NEEDED:
            raise ConfigurationError(
                f"no API key for {url}: set the environment variable {variable}, or name another "
                "with --api-key-env"
            )
        found.append((url, key or "none"))
    return found


def check_endpoint(config: RunConfig) -> list[tuple[str, str]]:
    """The endpoints that answer and know the model, with their keys.

    Raises AutointerpError where a key is missing, or there is none.
    """
    price(config)
    if config.budget is not None and not is_priced(config):
        raise ConfigurationError(
            f"a budget needs a price, and none is known for {config.model}: pass --input-price and "
            "--output-price, or --prices"
        )
    if config.is_local():
        return endpoints(config)
    errors, good = [], []
    for url, key in endpoints(config):
        timeout_s = min(config.timeout, _PREFLIGHT_S)
        try:
            run_coroutine(
                preflight(
                    url,
                    key,
                    model_name(config),
                    timeout_s=timeout_s,
                    follow_redirects=config.follow_redirects,
                )
            )
            good.append((url, key))
        except AutointerpError as error:
            errors.append(error)
    if len(errors) == len(config.base_urls()):
        raise errors[0]
    for reason in errors:
        say(f"{reason}; continuing with the others")
    return good


def dialect(config: RunConfig) -> Dialect:
    found = dialect_for(
        address(config),
        structured=config.response_format,
        think=config.thinking == "default",
        extra=config.extra_parameters(),
    )
    # A function of this process returns text alone.
    is_function = config.is_local() and is_held(config.local_model)
    return replace(found, dropped=(*found.dropped, *PARAMETERS)) if is_function else found


def price(config: RunConfig) -> Price | None:
    """What the settings say, else the user's table, else ours. Raises AutointerpError for a bad
    table.

    A model on this machine costs nothing.
    """
    if config.is_local():
        return Price(0.0, 0.0, 0.0)
    if config.input_price is not None and config.output_price is not None:
        cached = config.cached_input_price
        return Price(
            config.input_price,
            config.input_price if cached is None else cached,
            config.output_price,
        )
    own = read_prices(Path(config.prices)) if config.prices else None
    return price_of(model_name(config), own)


def is_priced(config: RunConfig) -> bool:
    """Whether costs can be known: no model costs nothing, a model needs a price."""
    return not config.uses_model() or price(config) is not None


def totals_note(totals: PoolTotals, config: RunConfig) -> str:
    """Requests, retries, spend and present trouble in a few words."""
    if config.is_local():
        spend = f"{totals.completion_tokens:,} tokens written"
    elif not is_priced(config):
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


def diagnose(session: Session) -> list[tuple[str, Probe]]:
    """What each endpoint can do; what it does not take is remembered in the run's journal."""
    config = session.config
    check_endpoint(config)

    async def probe_all() -> list[tuple[str, Probe]]:
        found = []
        for url, key in endpoints(config):
            client = _client(session, url, key, connections=1)
            try:
                found.append((url, await probe(client, dialect(config), model_name(config))))
            finally:
                await client.close()
        return found

    with session.run.locked():
        found = run_coroutine(probe_all())
        journal = Journal.open(session.run.journal)
        # One dialect for all: what any of them does not take is not sent.
        dropped = tuple(dict.fromkeys(name for _, one in found for name in one.dialect.dropped))
        cache = ReplyCache(journal, address(config), dialect(config))
        cache.drop(model_name(config), dropped)
        journal.close()
    return found


@dataclass(frozen=True)
class Answered:
    """What came of asking; `stopped` is what ended it early, to be raised once all is written."""

    totals: PoolTotals
    stopped: BaseException | None = None


def _client(session: Session, url: str, key: str, connections: int) -> Client:
    """What takes requests for the endpoint.

    Raises AutointerpError where a model cannot be loaded.
    """
    config = session.config
    if config.is_local():
        return local_model.open_client(config, session.device)
    return ChatClient(
        url,
        key,
        timeout_s=config.timeout,
        max_connections=connections,
        transport=config.transport,
        follow_redirects=config.follow_redirects,
    )


def _pool_settings(session: Session) -> PoolSettings:
    config = session.config
    if config.is_local():
        # While one batch is answered the next is gathered.
        most = 2 * local_model.rows(config, session.device)
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


def ask(
    session: Session,
    answering: list[tuple[str, str]],
    make_jobs: Callable[[], Iterable[PoolJob[R]]],
    on_result: Callable[[R], None],
    progress: Tracker,
    *,
    beside_a_batch: bool = False,
) -> Answered:
    """Send the jobs to the endpoints that are `answering`, through the pool and the run's journal.

    Where asking ends early, by Ctrl-C or because the endpoint rejects requests, what came is kept
    and the reason is in the result. `beside_a_batch`: a pending batch does not have these
    requests. May be called in any thread.
    """
    config = session.config
    totals = PoolTotals()

    def note() -> None:
        progress.note(totals_note(totals, config))

    def received(result: R) -> None:
        on_result(result)
        note()

    async def send_all() -> None:
        settings = _pool_settings(session)
        journal = Journal.open(session.run.journal)
        clients: list[Client] = []
        try:
            unconfirmed = journal.take_up_unconfirmed()
            if unconfirmed and not config.is_local():
                say(_unconfirmed_line(unconfirmed, is_priced(config)))
            if not (config.batch or beside_a_batch) and journal.pending_batches():
                raise ConfigurationError(
                    f"{session.run.path} has a pending batch: rerun with --batch to collect it, "
                    "or its requests will be paid for twice"
                )
            for url, key in answering:
                clients.append(_client(session, url, key, settings.max_concurrency))
            with stop_event(_stopping_line(settings.drain_s)) as stop:
                if config.batch:
                    batches = BatchSettings(price(config), config.budget)
                    (endpoint,) = clients
                    assert isinstance(endpoint, ChatClient), "a local model takes no batches"
                    filling = BatchRun(
                        endpoint, dialect(config), journal, batches, say, stop, stoppable(stop)
                    )
                    await filling.fill(make_jobs)
                await run_jobs(
                    make_jobs(),
                    clients=clients,
                    dialect=dialect(config),
                    journal=journal,
                    price=price(config),
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


def _stopping_line(drain_s: float) -> str:
    return (
        f"stopping: what is on its way is waited for, up to {drain_s:.0f} s; a second Ctrl-C "
        "leaves it"
    )


def _unconfirmed_line(unconfirmed: Sequence[Send], priced: bool) -> str:
    """What is to be known of requests that a run which died had in flight.

    Endpoints that keep records (OpenRouter does) find them by the id of a reply, and a request in
    flight has none yet: nobody can be asked what became of it.
    """
    worst = sum(send.worst_usd for send in unconfirmed)
    cost = f"at most ${worst:,.4f}, which counts as spent" if priced else "an unknown amount"
    return (
        f"{len(unconfirmed)} requests sent earlier were never answered: no reply came whose id an "
        f"endpoint's records could be searched for. They may have cost {cost}, and are sent again"
    )
