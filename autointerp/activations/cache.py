"""An activation cache opened for reading, whichever tool wrote it.

Tokens are in memory, activations stay on disk until a batch asks for them. The formats are in
`formats/`; what they have in common is here.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from autointerp.activations.activation_batch import (
    SPECIAL,
    VALID,
    ActivationBatch,
    FiringBatch,
    NormSample,
    norm_bits,
    norm_sample,
    sampled_contexts,
)
from autointerp.activations.finite import check_finite_batch
from autointerp.activations.masks import Mask
from autointerp.activations.units import Units, block_of, contexts_in_a_row
from autointerp.errors import InputError
from autointerp.tensors.firings import Firings
from autointerp.tensors.prefetch import prefetched
from autointerp.vocabulary import Vocabulary

T = TypeVar("T")
_READ_AT_ONCE = 4096  # contexts whose documents are looked through


@dataclass(frozen=True)
class Origin:
    """Where a cache comes from, as far as it tells: None for what it does not."""

    subject: str | None = None
    tokenizer: str | None = None
    hook: str | None = None
    text: str | None = None
    packing: str | None = None
    bos: str | None = None
    coder: str | None = None
    producer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cache:
    """`identity` changes when the content does; `mask` has VALID, and other bits where known.

    documents: the number of each token's document, ascending, -1 for padding; None where unknown.
    """

    path: Path
    format: str
    origin: Origin
    identity: str
    shape: tuple[int, int]  # contexts, context length
    token_ids: Tensor | None  # int32 [contexts, length]
    mask: Tensor  # uint8 [contexts, length]
    mask_is_whole: bool = False  # False: SPECIAL and OUTLIER are still to be told
    has_padding_mask: bool = False  # False: every token is taken for valid
    documents: Tensor | None = None  # int32 [contexts, length]
    vocabulary: Vocabulary | None = None
    repaired: Counter[str] = field(default_factory=Counter)  # values mended in the last pass

    @property
    def contexts(self) -> int:
        return self.shape[0]

    @property
    def context_length(self) -> int:
        return self.shape[1]

    @property
    def tokens(self) -> int:
        """The number of valid tokens."""
        return int(((self.mask & VALID) != 0).sum())

    def text(self) -> Tensor:
        """The token ids. Raises AutointerpError where the cache has none."""
        if self.token_ids is None:
            raise InputError(
                f"the cache {self.path} has no token ids: pass --token-ids FILE, a "
                f".npy or .safetensors file of {self.contexts} × "
                f"{self.context_length} ids"
            )
        return self.token_ids

    def get_vocabulary(self) -> Vocabulary:
        """What the token ids mean. Raises AutointerpError where it is not known."""
        if self.vocabulary is None:
            raise InputError(
                f"the cache {self.path} does not record which tokenizer made it: pass "
                "the model with --subject"
            )
        return self.vocabulary

    def remarks(self) -> list[str]:
        """Remarks on values that had to be repaired, once the cache is read."""
        return [f"{n:,} values in the cache were {what}" for what, n in self.repaired.items() if n]

    def unit_remarks(self) -> list[str]:
        """What to say of what lies on one side of a split."""
        if self.documents is not None:
            return self._units[0].remarks()
        block = contexts_in_a_row(block_of(self.contexts))
        return [f"the cache does not record documents: split in blocks of {block}"]

    @cached_property
    def _units(self) -> tuple[Units, np.ndarray]:
        """The positions at which units begin, but for the first: int64, ascending."""
        assert self.documents is not None
        units = Units(self.context_length, self.contexts)
        starts: list[int] = []
        for begin in range(0, self.contexts, _READ_AT_ONCE):
            starts += units.starts(self.documents[begin : begin + _READ_AT_ONCE].numpy())
        return units, np.array(starts, dtype=np.int64)

    def _unit(self, begin: int, end: int) -> Tensor:
        """Of every token of some contexts, or of every context: int64 [contexts, length or 1]."""
        if self.documents is None:
            return torch.arange(begin, end).unsqueeze(1) // block_of(self.contexts)
        place = np.arange(begin * self.context_length, end * self.context_length)
        found = np.searchsorted(self._units[1], place, side="right")
        return torch.from_numpy(found).view(-1, self.context_length)

    def _tokens(
        self, begin: int, end: int, device: torch.device, units: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Token ids, mask, documents and units of some contexts."""
        return (
            self.text()[begin:end].to(device),
            self.mask[begin:end].to(device),
            None if self.documents is None else self.documents[begin:end].to(device),
            self._unit(begin, end).to(device) if units else None,
        )


@dataclass(frozen=True, kw_only=True)
class DenseCache(Cache):
    """Activations of the subject model: `read(begin, end)` gives [contexts, length, d_in]."""

    d_in: int
    dtype: torch.dtype
    read: Callable[[int, int], Tensor]
    known_norms: NormSample | None = None

    @cached_property
    def norms(self) -> NormSample:
        if self.known_norms is not None:
            return self.known_norms
        end = min(sampled_contexts(self.context_length), self.contexts)
        valid = (self.mask[:end] & VALID) != 0
        return norm_sample(self.read(0, end).float().norm(dim=-1), valid)

    def first_batch(self) -> ActivationBatch:
        """The first contexts, for checks."""
        end = min(sampled_contexts(self.context_length), self.contexts)
        return next(self.batches(end, torch.device("cpu")))

    def check(self) -> list[str]:
        """Warnings from the first contexts. Raises AutointerpError where most are not finite."""
        return check_finite_batch(self.first_batch(), f"the cache {self.path}")

    def sample(self, masks: Collection[Mask]) -> Tensor:
        """The activations of the first contexts, of tokens that count: [tokens, d_in]."""
        batch = self.first_batch()
        return batch.activations[batch.eligible(masks)]

    def batches(
        self,
        contexts: int,
        device: torch.device,
        skip: int = 0,
        stop: int | None = None,
        *,
        units: bool = False,
    ) -> Iterator[ActivationBatch]:
        """Batches of at most `contexts` whole contexts, in order, from `skip` on up to `stop`.

        `units`: whether they say what lies on one side of a split.
        """
        median = None if self.mask_is_whole else self.norms.median
        self.repaired.clear()

        def read(begin: int, end: int) -> Tensor:
            found = self.read(begin, end)
            return found.pin_memory() if device.type == "cuda" else found

        last = self.contexts if stop is None else stop
        for begin, end, stored in _read_ahead(read, skip, last, contexts):
            token_ids, mask, document, unit = self._tokens(begin, end, device, units)
            activations = stored.to(device, non_blocking=True)
            if median is not None:
                norms = activations.float().norm(dim=-1)
                mask = mask | norm_bits(norms, (mask & VALID) != 0, median)
            yield ActivationBatch(begin, token_ids, mask, activations, document=document, unit=unit)


@dataclass(frozen=True, kw_only=True)
class SparseCache(Cache):
    """Feature activations: `read(begin, end)` gives the firings of those contexts' tokens."""

    features: int
    read: Callable[[int, int], Firings]
    coder_identity: str | None = None

    def batches(
        self,
        contexts: int,
        device: torch.device,
        skip: int = 0,
        stop: int | None = None,
        *,
        units: bool = False,
    ) -> Iterator[FiringBatch]:
        """Batches of at most `contexts` whole contexts, in order, from `skip` on up to `stop`.

        `units`: whether they say what lies on one side of a split.
        """
        self.repaired.clear()
        last = self.contexts if stop is None else stop
        for begin, end, found in _read_ahead(self.read, skip, last, contexts):
            token_ids, mask, document, unit = self._tokens(begin, end, device, units)
            firings = Firings(
                found.token.to(device), found.feature.to(device), found.value.to(device)
            )
            yield FiringBatch(begin, token_ids, mask, firings, document=document, unit=unit)


def _read_ahead(
    read: Callable[[int, int], T], first: int, last: int, step: int
) -> Iterator[tuple[int, int, T]]:
    """Contexts first to last in steps: begin, end and what was read of them.

    The disk is read in a thread of its own while the batch before is worked on. Nothing is computed
    there: torch's threads for it would stand in the way of those of the encoder.
    """
    ends = ((begin, min(begin + step, last)) for begin in range(first, last, step))
    return prefetched((begin, end, read(begin, end)) for begin, end in ends)


def with_vocabulary(
    cache: DenseCache | SparseCache, vocabulary: Vocabulary
) -> DenseCache | SparseCache:
    """The cache with the meaning of its token ids, and its special tokens marked."""
    mask = cache.mask
    if not cache.mask_is_whole:
        ids = torch.tensor(sorted(vocabulary.special_ids), dtype=torch.int32)
        special = torch.isin(cache.text(), ids) & ((mask & VALID) != 0)
        mask = mask | (special * SPECIAL).byte()
    return replace(cache, vocabulary=vocabulary, mask=mask)
