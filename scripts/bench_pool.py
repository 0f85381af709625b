"""Measure the worker pool against a local server in a process of its own.

    python scripts/bench_pool.py throughput     share of concurrency / mean latency, all transports
    python scripts/bench_pool.py overhead       CPU a request beside the bare transport's
    python scripts/bench_pool.py memory         peak memory from 1 k to 200 k requests
    python scripts/bench_pool.py features       label and detection of the demo's features
    python scripts/bench_pool.py rate           settling at a server's requests a minute

Client and server share this machine's cores, so rates are lower bounds; compare rows of one call.
"""

import argparse
import asyncio
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from autointerp import load_labels
from autointerp.llm.journal.journal import Journal
from autointerp.llm.limits.prices import Price
from autointerp.llm.pool import PoolSettings, Step, run_jobs
from autointerp.llm.request_runner import Outcome
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.client import ChatClient, Transport
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.request import ChatRequest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.load_server import Behavior, LoadServer, load_server

_PROMPT = "A window of text around a token on which the feature is active. " * 32  # 2 kB
_MAX_LATENCY_S = 10.0
_SIZES = (1_000, 10_000, 50_000, 200_000)
_TRANSPORTS: tuple[Transport, ...] = ("httpx", "aiohttp")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request of its own for every number."""

    number: int

    def request(self) -> ChatRequest:
        text = f"{self.number} {_PROMPT}"
        return ChatRequest("test-model", ({"role": "user", "content": text},), 10)

    def reduce(self, outcome: Outcome) -> Step[float]:
        return Step(results=[time.monotonic()])


def run_pool(
    server: LoadServer,
    jobs: Iterable[Ask],
    *,
    concurrency: int,
    transport: Transport = "httpx",
    fixed: bool = True,
    times: list[float] | None = None,
) -> tuple[list[float], PoolTotals]:
    """Run jobs with a new journal; when each result came (monotonic seconds), and the totals."""
    times = [] if times is None else times
    totals = PoolTotals()
    settings = PoolSettings(
        concurrency=concurrency,
        min_concurrency=concurrency if fixed else 1,
        max_concurrency=concurrency if fixed else 256,
    )

    async def main(folder: Path) -> None:
        journal = Journal.open(folder / "journal.sqlite")
        client = ChatClient(
            server.url,
            "none",
            timeout_s=60,
            max_connections=settings.max_concurrency,
            transport=transport,
        )
        try:
            await run_jobs(
                jobs,
                clients=[client],
                dialect=Dialect(),
                journal=journal,
                price=Price(0.1, 0.1, 0.4),
                settings=settings,
                on_result=times.append,
                totals=totals,
            )
        finally:
            await client.close()
            journal.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
    return times, totals


def bare(server: LoadServer, requests: int, concurrency: int, transport: Transport) -> None:
    """The same bodies over the same transport, and nothing else."""

    async def main() -> None:
        client = ChatClient(
            server.url, "none", timeout_s=60, max_connections=concurrency, transport=transport
        )
        bodies = iter([Dialect().body(Ask(i).request()) for i in range(requests)])

        async def work() -> None:
            for body in bodies:
                await client.send(body)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        await client.close()

    asyncio.run(main())


def steady_rate(times: list[float], concurrency: int) -> float:
    """Results a second, without the first ones and without the end, when the queue is empty."""
    kept = sorted(times)[concurrency : len(times) - concurrency]
    return (len(kept) - 1) / (kept[-1] - kept[0])


def throughput(transports: Iterable[Transport]) -> None:
    latencies: tuple[Literal["fixed", "lognormal"], ...] = ("fixed", "lognormal")
    for latency, transport, concurrency in itertools.product(latencies, transports, (16, 64, 256)):
        behavior = Behavior(latency=latency, mean_s=0.3, longest_s=_MAX_LATENCY_S)
        with load_server(behavior) as server:
            requests = max(40 * concurrency, 2000)
            times, _ = run_pool(
                server, map(Ask, range(requests)), concurrency=concurrency, transport=transport
            )
            rate, ideal = steady_rate(times, concurrency), concurrency / 0.3
            cpu = server.stats()["cpu_s"]
        print(
            f"{latency:<10} {transport:<8} concurrency {concurrency:>3}: {rate:6.1f} requests/s, "
            f"{rate / ideal:6.1%} of concurrency / mean latency (server: {cpu:.1f} s of CPU)"
        )


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def overhead(transports: Iterable[Transport], requests: int = 4000, rounds: int = 3) -> None:
    for transport in transports:
        for round_ in range(rounds):
            with load_server(Behavior()) as server:
                began, cpu = time.monotonic(), cpu_s()
                bare(server, requests, 16, transport)
                bare_ms = 1e3 * (cpu_s() - cpu) / requests
                bare_rate = requests / (time.monotonic() - began)
                began, cpu = time.monotonic(), cpu_s()
                run_pool(server, map(Ask, range(requests)), concurrency=16, transport=transport)
                pool_ms = 1e3 * (cpu_s() - cpu) / requests
                pool_rate = requests / (time.monotonic() - began)
            print(
                f"{transport:<8} round {round_ + 1}: bare {bare_ms:.2f} ms of CPU a request "
                f"({bare_rate:,.0f}/s), pool {pool_ms:.2f} ms ({pool_rate:,.0f}/s), "
                f"ours {pool_ms - bare_ms:.2f} ms"
            )


def memory(sizes: Iterable[int]) -> None:
    """Each size in a process of its own, so that each has a peak of its own."""
    for requests in sizes:
        call = [sys.executable, __file__, "peak", str(requests)]
        done = subprocess.run(call, check=True, capture_output=True, text=True)
        print(f"{requests:>7,} requests: peak {done.stdout.strip()} MB")


def peak(requests: int) -> None:
    class Forgetful(list[float]):
        def append(self, _: float) -> None:
            """The pool's own memory is what is measured."""

    with load_server(Behavior()) as server:
        _, totals = run_pool(
            server,
            map(Ask, range(requests)),
            concurrency=64,
            transport="aiohttp",
            times=Forgetful(),
        )
    assert totals.requests == requests
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def features(count: int, concurrency: int) -> None:
    """Label and judge by detection, through the command line, with and without faults."""
    good = Behavior(latency="fixed", mean_s=0.3, respond="labels")
    faulty = replace(good, rate_limited=0.10, server_error=0.05, malformed=0.05)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        flags = ["--out", str(out), "--features", f"0-{count - 1}", "--tokens", "200000"]
        flags += ["--scorers", "detection"]
        command = [sys.executable, "-m", "autointerp"]
        subprocess.run([*command, "collect", *flags], check=True, capture_output=True)
        for name, behavior, bounds in (
            (f"concurrency {concurrency}", good, [concurrency] * 2),
            ("defaults", good, None),
            ("defaults, 10 % 429, 5 % 500, 5 % malformed", faulty, None),
        ):
            for stale in ("labels.parquet", "drafts.parquet", "journal.sqlite"):
                (out / stale).unlink(missing_ok=True)
            with load_server(behavior) as server:
                asked = ["--model", "test-model", "--base-url", server.url]
                if bounds:
                    asked += ["--concurrency", str(bounds[0]), "--max-concurrency", str(bounds[1])]
                for stage in ("label", "score"):
                    subprocess.run(
                        [*command, stage, *flags, *asked], check=True, capture_output=True
                    )
                stats = server.stats()
            record = json.loads((out / "run.json").read_text())["stages"]
            took = record["label"]["seconds"] + record["score"]["seconds"]
            labels = load_labels(out)
            askable = ~labels["status"].isin(["dead", "too_few"])
            scored = labels["detection_balanced_accuracy"].notna().sum()
            print(
                f"{name}: {askable.sum() / took:.1f} features/s ({askable.sum()} features, "
                f"{(labels['status'] == 'labeled').sum()} labeled, {scored} scored, "
                f"{stats['requests']:,} requests, {took:.1f} s)"
            )


def rate(per_minute: float, seconds: float) -> None:
    """Where the pool settles against a server that allows so many requests a minute."""
    for latency_s, headers in ((0.3, True), (0.3, False), (2.0, True), (2.0, False)):
        behavior = Behavior(
            latency="lognormal",
            mean_s=latency_s,
            sigma=0.5,
            requests_per_minute=per_minute,
            headers=headers,
        )
        with load_server(behavior) as server:
            jobs = map(Ask, range(round(per_minute * seconds / 60)))
            times, _ = run_pool(server, jobs, concurrency=16, fixed=False)
            stats = server.stats()
        late = [t for t in sorted(times) if t >= times[0] + seconds / 2]
        settled = (len(late) - 1) / (late[-1] - late[0]) * 60
        refused = [t for t in stats["refused_at"] if t >= times[0] + seconds / 2]
        said = "with headers" if headers else "without headers"
        print(
            f"{per_minute:g} requests/min, {latency_s:g} s, {said}: settles at "
            f"{settled / per_minute:.1%}, refused then {len(refused) / len(late):.2%}, "
            f"in all {stats['refused'] / stats['requests']:.2%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    modes = ["throughput", "overhead", "memory", "peak", "features", "rate"]
    parser.add_argument("mode", choices=modes)
    parser.add_argument("number", nargs="?", type=int, help="of requests or features")
    arguments = parser.parse_args()
    match arguments.mode:
        case "throughput":
            throughput(_TRANSPORTS)
        case "overhead":
            overhead(_TRANSPORTS, arguments.number or 4000)
        case "memory":
            memory([arguments.number] if arguments.number else _SIZES)
        case "peak":
            peak(arguments.number)
        case "features":
            features(arguments.number or 1000, 16)
        case "rate":
            rate(arguments.number or 1200, 120)


if __name__ == "__main__":
    main()
