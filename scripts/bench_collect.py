"""How much collecting costs on top of encoding: ratios measured in one process, alternating.

    python scripts/bench_collect.py [--tokens 262144] [--device cpu] [--case NAME]

Batches are encoded alone, and encoded and collected, in turns, so that a noisy machine slows
both alike. Activations are a mixture of random directions, so that features fire in bursts as those
of text do; thresholds are set for about 50 active features a token.
"""

import argparse
import os
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.activations.activation_batch import VALID, ActivationBatch
from autointerp.coders import SparseCoder
from autointerp.config.settings import RunConfig
from autointerp.evidence.collector import Collector
from autointerp.evidence.directions import decoder_neighbors
from autointerp.stages.collect.collect_stage import collect_settings
from autointerp.tensors.firings import Firings

LENGTH, CONTEXTS, ACTIVE = 128, 64, 50
IN_TURN = 8  # batches
VOCABULARY = 50_000
DOCUMENT = 600  # tokens


@dataclass(frozen=True)
class Case:
    name: str
    features: int
    d_in: int
    activation: str
    limit: float  # what collect ÷ encode must not exceed on a CPU


CASES = (
    Case("relu-10240", 10_240, 2_560, "relu", 1.15),
    Case("topk-10240", 10_240, 2_560, "topk", 1.15),
    Case("relu-4096", 4_096, 256, "relu", 1.6),
    Case("topk-4096", 4_096, 256, "topk", 1.6),
)


def inputs(case: Case, contexts: int, first: int, device: torch.device) -> ActivationBatch:
    """A batch that depends on its place alone; tokens follow Zipf's law."""
    generator = torch.Generator(device=device).manual_seed(first)
    shape = (contexts, LENGTH)
    uniform = torch.rand(shape, generator=generator, device=device)
    token_ids = (VOCABULARY**uniform - 1).int()
    # Tokens of a kind point the same way, and so does a context.
    kinds = torch.randn(
        256, case.d_in, generator=torch.Generator(device=device).manual_seed(1), device=device
    )
    noise = torch.randn((*shape, case.d_in), generator=generator, device=device)
    topic = torch.randn((contexts, 1, case.d_in), generator=generator, device=device)
    activations = kinds[(token_ids % 256).long()] + 0.5 * topic + noise
    mask = torch.full(shape, VALID, dtype=torch.uint8, device=device)
    place = first * LENGTH + torch.arange(contexts * LENGTH, device=device).view(shape)
    document = place // DOCUMENT
    return ActivationBatch(
        first, token_ids, mask, activations, document=document.int(), unit=document
    )


def coder(case: Case, device: torch.device) -> SparseCoder:
    generator = torch.Generator(device=device).manual_seed(2)
    encoder = torch.randn(case.features, case.d_in, generator=generator, device=device)
    encoder /= case.d_in**0.5
    bias = torch.zeros(case.features, device=device)
    if case.activation == "relu":
        sample = inputs(case, 64, 10**6, device).activations.flatten(0, 1)[::8] @ encoder.T
        kept = ACTIVE / case.features
        bias = -torch.quantile(sample.T.contiguous(), 1 - kept, dim=1)
    return SparseCoder(
        case.name,
        encoder,
        bias,
        "topk" if case.activation == "topk" else "relu",
        k=ACTIVE if case.activation == "topk" else None,
    )


def synchronized(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def flat(batch: ActivationBatch) -> Tensor:
    return batch.activations.flatten(0, 1)


def measure(case: Case, tokens: int, device: torch.device) -> dict[str, float]:
    """Seconds of encoding alone and of encoding and collecting, over the same batches."""
    encode = coder(case, device)
    every = torch.arange(case.features, device=device)
    similar = decoder_neighbors(encode.encoder, every, 10)
    settings = collect_settings(RunConfig())
    collector = Collector(every, every, LENGTH, settings, device, similar.item)

    def encoded(batches: list[ActivationBatch]) -> Iterator[tuple[ActivationBatch, Firings]]:
        for batch in batches:
            yield batch, encode.encode(flat(batch))

    seconds = {"encode": 0.0, "collect": 0.0}
    for number in range(tokens // (IN_TURN * CONTEXTS * LENGTH)):
        first = number * IN_TURN
        batches = [inputs(case, CONTEXTS, (first + i) * CONTEXTS, device) for i in range(IN_TURN)]
        for turn in ("encode", "collect") if number % 2 else ("collect", "encode"):
            began = synchronized(device)
            if turn == "encode":
                for _ in encoded(batches):
                    pass
            else:
                for batch, firings in encoded(batches):
                    collector.add(batch, firings)
            seconds[turn] += synchronized(device) - began
    return {
        "tokens": collector.statistics.tokens,
        "l0": collector.statistics.firings / collector.statistics.tokens,
        **seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=262_144)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--case", choices=[c.name for c in CASES])
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {device}, torch {torch.__version__}")
    print(f"{'case':<14}{'L0':>7}{'encode':>12}{'collect':>12}{'ratio':>8}{'limit':>8}")
    for case in CASES:
        if options.case in (None, case.name):
            found = measure(case, options.tokens, device)
            rates = (found["tokens"] / found[n] for n in ("encode", "collect"))
            shown = "".join(f"{rate:>10,.0f}/s" for rate in rates)
            ratio = found["collect"] / found["encode"]
            print(f"{case.name:<14}{found['l0']:>7.1f}{shown}{ratio:>8.2f}{case.limit:>8.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MB")


if __name__ == "__main__":
    main()
