"""One pass over the activations for some of the features, or over a part of the contexts."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from autointerp.activations.activation_batch import TokenBatch
from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.coders import SparseCoder
from autointerp.evidence.checkpoint import checkpointed, load_checkpoint, save_checkpoint
from autointerp.evidence.collector import Collector, CollectSettings
from autointerp.resources.activation_source import Source
from autointerp.runs.directory import Run
from autointerp.tensors.firings import Firings

_CHECKPOINT = re.compile(r"collect-\d+-of-(\d+)-from-\d+\.checkpoint")


def checkpoints(run: Run) -> dict[Path, int]:
    """Those that are left, of whatever inputs, with the number of passes they are of."""
    named = ((f, _CHECKPOINT.fullmatch(f.name)) for f in run.path.glob("collect-*.checkpoint"))
    return {file: int(name[1]) for file, name in named if name}


@dataclass(frozen=True)
class Pass:
    """What a pass keeps, and of what; another process can be handed it.

    coder: of the features `encoded`, None where the source holds their firings. rows, encoded and
    similar are as `Collector` takes them. inputs: a fingerprint of all that the result depends on.
    """

    run: Run
    number: int
    passes: int
    coder: SparseCoder | None
    rows: Tensor
    encoded: Tensor
    similar: Tensor | None
    context_length: int
    settings: CollectSettings
    batch_contexts: int
    inputs: str
    checkpoint_every_s: float

    def to(self, device: torch.device) -> "Pass":
        return replace(
            self,
            coder=None if self.coder is None else self.coder.to(device),
            rows=self.rows.to(device),
            encoded=self.encoded.to(device),
            similar=None if self.similar is None else self.similar.to(device),
        )

    def collector(self) -> Collector:
        """An empty one."""
        return Collector(
            self.rows,
            self.encoded,
            self.context_length,
            self.settings,
            self.rows.device,
            self.similar,
        )

    def checkpoint(self, first: int) -> Path:
        """Where what is kept of the contexts from `first` on is written now and then."""
        name = f"collect-{self.number}-of-{self.passes}-from-{first}.checkpoint"
        return self.run.path / name

    def held(self) -> list[range]:
        """The contexts that checkpoints of this pass hold."""
        pattern = self.checkpoint(0).name.replace("-0.checkpoint", "-*.checkpoint")
        found = (checkpointed(file, self.inputs) for file in self.run.path.glob(pattern))
        return [contexts for contexts in found if contexts]


def read_part(
    this: Pass, source: Source, part: range, advance: Callable[[int], None], *, keep: bool
) -> Collector:
    """Take in some contexts, from their last checkpoint on, where there is one; settled.

    advance: is told of contexts as they are taken in. keep: whether a checkpoint of all is left.
    """
    file = this.checkpoint(part.start)
    collector = this.collector()
    done = part.start
    held = checkpointed(file, this.inputs)
    if held is not None and held.start == part.start and held.stop <= part.stop:
        if load_checkpoint(file, collector, this.inputs) == held:
            done = held.stop
        else:
            collector = this.collector()
    saved = time.monotonic()
    for batch, firings in _encoded(this, source, range(done, part.stop)):
        collector.add(batch, firings)
        done += len(batch.token_ids)
        advance(len(batch.token_ids))
        began = time.monotonic()
        if began - saved >= this.checkpoint_every_s:
            size = save_checkpoint(file, collector, this.inputs, range(part.start, done))
            saved = time.monotonic()
            took = f"{size / 1e6:,.0f} MB in {saved - began:.1f} s"
            this.run.note(f"collect: checkpoint after {done - part.start:,} contexts, {took}")
    collector.settle()
    if keep and held != part:
        # All of the part: a text may end before it.
        save_checkpoint(file, collector, this.inputs, part)
    return collector


def _encoded(this: Pass, source: Source, part: range) -> Iterator[tuple[TokenBatch, Firings]]:
    """Every batch of tokens of a part, with the features that fire on them."""
    if not part:
        return
    device, size = this.rows.device, this.batch_contexts
    units = this.settings.split == "document"
    if isinstance(source, SparseCache):
        for sparse in source.batches(size, device, part.start, part.stop, units=units):
            yield sparse, sparse.firings
        return
    assert this.coder is not None
    if isinstance(source, DenseCache):
        batches = source.batches(size, device, part.start, part.stop, units=units)
    else:
        batches = source.batches(part.start, part.stop, units=units)
    for batch in batches:
        yield batch, this.coder.encode(batch.activations.flatten(0, 1))
