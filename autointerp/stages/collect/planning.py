"""How collecting is shared out: passes over the features, parts of the contexts, processes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from autointerp.activations.documents import HUB
from autointerp.activations.stream import SubjectStream
from autointerp.evidence.collector import CollectSettings, working_bytes
from autointerp.progress import say
from autointerp.resources.activation_source import Source
from autointerp.resources.session import Session
from autointerp.stages.collect.one_pass import checkpoints
from autointerp.tensors.memory import free_bytes

_OF_FREE = 0.8  # of the memory: batches and merges need some too


@dataclass(frozen=True)
class Share:
    """The features in as many tiles as there are passes, and how many processes share a pass."""

    tiles: list[list[int]]
    processes: int


def shared_out(session: Session, source: Source, settings: CollectSettings) -> Share:
    """As many processes as were asked for, and as few passes, as memory is enough for."""
    selected, asked = session.features, session.config.processes
    length = min(settings.length, source.context_length)
    if asked > 1 and (why := why_one(source)) is not None:
        say(f"collect: using one process instead of {asked}: {why}")
        asked = 1
    size = working_bytes(len(selected), length, settings)
    free = free_bytes(session.device)
    limit = asked * size if free is None else _OF_FREE * free
    if session.config.memory_gb is not None:
        limit = session.config.memory_gb * 1e9
    needed = max(1, math.ceil(size / limit))
    # Passes that ended before a kill are of use only where the others are as they were.
    passes = min(len(selected), max(needed, *checkpoints(session.run).values(), 1))
    each = math.ceil(len(selected) / passes)
    tile = working_bytes(each, length, settings)
    fit_in = len(devices_of(session.device)) * max(1, math.floor(limit / tile))
    processes = min(asked, fit_in)
    said = f"collect: evidence of {len(selected):,} features takes "
    said += f"{processes * size / 1e9:,.2f} GB of memory"
    if processes > 1:
        said += f" in {processes} processes"
    limits = []
    if processes < asked:
        limits.append(f"{processes} of the {asked} processes asked for")
    if passes > 1:
        limits.append(f"{passes} passes over the activations")
    if limits:
        begun = passes > needed and processes == asked
        why = "as it was begun" if begun else f"{limit / 1e9:,.2f} GB are to be had"
        said += f", {why}: {', '.join(limits)}"
    say(said)
    tiles = [selected[begin : begin + each] for begin in range(0, len(selected), each)]
    return Share(tiles, processes)


def why_one(source: Source) -> str | None:
    """Why a source cannot be read in parts, None where it can."""
    if isinstance(source, SubjectStream) and source.settings.text.text.startswith(HUB):
        return "every process would load the text from the hub from its beginning"
    return None


def devices_of(device: torch.device) -> list[torch.device]:
    """What processes are spread over: all GPUs where none is named."""
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return [device]


@dataclass(frozen=True)
class Part:
    """Some contexts, and how many of them, from the first on, a checkpoint holds.

    A part is known by the context it begins with; it ends where the next begins.
    """

    contexts: range
    held: int


def divided(held: Iterable[range], contexts: int, parts: int, batch: int) -> list[Part]:
    """All contexts in parts: what checkpoints hold stays, what is missing makes `parts` or more.

    New parts begin a whole number of batches after what is held.
    """
    kept: list[range] = []
    for found in sorted(held, key=lambda r: r.start):
        if found.stop <= contexts and (not kept or found.start >= kept[-1].stop):
            kept.append(found)
    ends = [0, *(r.stop for r in kept)]
    begins = [*(r.start for r in kept), contexts]
    gaps = [range(a, b) for a, b in zip(ends, begins, strict=True) if a < b]
    shares = [1] * len(gaps)
    while sum(shares) < parts and gaps:
        widest = max(range(len(gaps)), key=lambda i: len(gaps[i]) / shares[i])
        if len(gaps[widest]) <= shares[widest] * batch:
            break
        shares[widest] += 1
    known = {r.start: len(r) for r in kept}
    goes_on = {r.stop for r in kept}
    for gap, share in zip(gaps, shares, strict=True):
        batches = -(-len(gap) // batch)
        step = -(-batches // share) * batch
        new = (first for first in gap[::step] if first not in goes_on)
        known |= dict.fromkeys(new, 0)
    firsts = sorted(known)
    stops = [*firsts[1:], contexts]
    return [Part(range(a, b), known[a]) for a, b in zip(firsts, stops, strict=True)]
