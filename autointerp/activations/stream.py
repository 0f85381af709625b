"""Activations computed by the subject model on the fly, without storing them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from autointerp.activations.activation_batch import (
    SPECIAL,
    UNCOUNTED,
    VALID,
    ActivationBatch,
    NormSample,
    norm_bits,
    norm_sample,
    sampled_contexts,
)
from autointerp.activations.contexts import ContextReader, Contexts, TextSettings
from autointerp.activations.finite import check_finite_batch
from autointerp.activations.hooks import Hook, activations_at, resolve_hook
from autointerp.activations.masks import Mask
from autointerp.activations.residual import check_residual_sums
from autointerp.activations.subject import Subject, load_subject
from autointerp.activations.units import MANY, Units
from autointerp.errors import InputError
from autointerp.vocabulary import Vocabulary, vocabulary_of

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_CHECKED = 2  # contexts that are run again to see whether sites add up


@dataclass(frozen=True)
class StreamSettings:
    """`dtype`: what activations are rounded to, so that a cache of it changes nothing."""

    subject: str
    hooks: tuple[str, ...]
    text: TextSettings
    tokens: int  # at most so many, in whole contexts
    batch_contexts: int
    dtype: str = "bfloat16"

    @property
    def contexts(self) -> int:
        return max(1, self.tokens // self.text.length)


@dataclass(frozen=True)
class Captured:
    """One batch of one forward pass: its contexts, and the activations of every hook."""

    first_context: int
    contexts: Contexts
    token_ids: Tensor  # int32 [contexts, length]
    mask: Tensor  # uint8 [contexts, length], without OUTLIER: that is a matter of each hook
    activations: list[Tensor]  # for each hook [contexts, length, d]

    def valid(self) -> Tensor:
        return (self.mask & VALID) != 0

    def batch(self, hook: int, median: float) -> ActivationBatch:
        """What hook number `hook` saw; outliers are told by the median norm at that hook."""
        activations = self.activations[hook]
        norms = activations.float().norm(dim=-1)
        mask = self.mask | norm_bits(norms, self.valid(), median)
        document = torch.from_numpy(self.contexts.document).to(mask.device)
        return ActivationBatch(
            self.first_context, self.token_ids, mask, activations, document=document
        )


class SubjectStream:
    """Runs the subject model over text, several hooks in one forward pass.

    The first contexts are held until there is a sample of their norms, which decides what an
    outlier is. Batches can be read once; whoever begins to read calls `check` before.
    """

    def __init__(
        self,
        settings: StreamSettings,
        device: torch.device,
        subject: Subject | None = None,
        norms: list[NormSample] | None = None,
    ) -> None:
        """Loads the model, unless it is given.

        `norms`: the sample of every hook where it is known, so that a part of the text can be read
        without running the model over its beginning.
        Raises AutointerpError for a model, hook or length that cannot be had.
        """
        self.settings = settings
        self.device = device
        self.subject: Subject = subject or load_subject(settings.subject, device)
        longest = self.subject.longest_context
        if longest is not None and settings.text.length > longest:
            raise InputError(
                f"context_length {settings.text.length}: {settings.subject} supports "
                f"contexts of at most {longest} tokens"
            )
        self.hooks: list[Hook] = [resolve_hook(self.subject.model, h) for h in settings.hooks]
        self.reader = ContextReader(settings.text, self.subject.tokenizer)
        self._read_whole = False
        self._units: Units | None = None  # where batches were asked for with them
        if norms is not None:
            self.norm_samples = norms

    @property
    def contexts(self) -> int:
        """The largest possible number of contexts: the text may have fewer."""
        return self.settings.contexts

    @property
    def contexts_read(self) -> int:
        """The number of contexts, once the text is read to its end; until then an upper bound."""
        return self.reader.contexts if self._read_whole else self.contexts

    @property
    def context_length(self) -> int:
        return self.settings.text.length

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return vocabulary_of(self.subject.tokenizer)

    def get_vocabulary(self) -> Vocabulary:
        """What the token ids mean."""
        return self._vocabulary

    @cached_property
    def _head(self) -> list[Captured]:
        """The first batches: as many as the sample of norms needs."""
        head: list[Captured] = []
        while sum(len(c.contexts) for c in head) < sampled_contexts(self.context_length):
            captured = next(self._rest, None)
            if captured is None:
                break
            head.append(captured)
        if not head:
            raise InputError(
                f"text {self.settings.text.text} holds less than one context of "
                f"{self.context_length} tokens: nothing to capture"
            )
        return head

    @cached_property
    def _rest(self) -> Iterator[Captured]:
        return self._captured(0, self.contexts)

    @cached_property
    def norm_samples(self) -> list[NormSample]:
        """Of every hook."""
        rows = sampled_contexts(self.context_length)
        valid = torch.cat([c.valid() for c in self._head])[:rows]
        return [
            norm_sample(
                torch.cat([c.activations[i].float().norm(dim=-1) for c in self._head])[:rows], valid
            )
            for i in range(len(self.hooks))
        ]

    @cached_property
    def widths(self) -> list[int]:
        """Of the activations of every hook."""
        return [a.shape[-1] for a in self._head[0].activations]

    @property
    def norms(self) -> NormSample:
        """Of the first hook."""
        return self.norm_samples[0]

    @property
    def d_in(self) -> int:
        """Of the first hook."""
        return self.widths[0]

    def remarks(self) -> list[str]:
        """Remarks on the text; empty until it has been read to its end."""
        if not self._read_whole:
            return []
        found = self.reader.remarks()
        if self.reader.contexts < self.contexts:
            had, asked = (n * self.context_length for n in (self.reader.contexts, self.contexts))
            found.append(f"the text ends after {had:,} of the {asked:,} tokens asked for")
        else:
            found += self.reader.unread()
        return found + (self._units.remarks() if self._units is not None else [])

    def check(self) -> list[str]:
        """Look at the first batch, before any is read, and warn of what it shows.

        Raises InputError for token ids that the model does not have, hooks that are not the site
        they are named by, and activations most of which are not finite.
        """
        self._check_token_ids()
        found, first = [], self._head[0]
        for number, hook in enumerate(self.hooks):
            batch = first.batch(number, self.norm_samples[number].median)
            found += check_finite_batch(batch, f"{self.settings.subject} at {hook.name}")
        device = self.subject.device
        token_ids, valid = first.token_ids[:_CHECKED], first.valid()[:_CHECKED]
        for name in check_residual_sums(
            self.subject.model, self.hooks, token_ids.to(device), valid.to(device)
        ):
            found.append(
                f"hook {name} could not be verified: the model has no other sites "
                "that add up to the residual stream with it"
            )
        return found

    def _check_token_ids(self) -> None:
        """Raise AutointerpError where the text has token ids beyond the model's embeddings.

        The whole text is looked through only where the tokenizer has such ids at all.
        """
        if len(self.get_vocabulary()) <= self.subject.embeddings:
            return
        reader = ContextReader(self.settings.text, self.subject.tokenizer)
        for contexts in reader.batches(self.settings.batch_contexts, self.contexts):
            self._check_has(contexts)

    def _check_has(self, contexts: Contexts) -> None:
        """Raise AutointerpError where the model has no embedding for a token."""
        largest = int(contexts.token_ids.max(initial=0))
        if largest >= self.subject.embeddings:
            raise InputError(
                f"token {self.get_vocabulary().token_text(largest)!r} has id "
                f"{largest:,}, but {self.settings.subject} has embeddings for ids "
                f"below {self.subject.embeddings:,}: the tokenizer belongs to another "
                "model, or tokens were added without resizing the embeddings"
            )

    def first_batch(self) -> ActivationBatch:
        """The first batch of the first hook, which `batches` gives again."""
        return self._head[0].batch(0, self.norms.median)

    def sample(self, masks: Collection[Mask]) -> Tensor:
        """What the first hook saw in the contexts that `norms` is of: [tokens, d_in].

        Of tokens that count; before any batch is read.
        """
        batches = [captured.batch(0, self.norms.median) for captured in self._head]
        rows = sampled_contexts(self.context_length)
        counted = torch.cat([batch.eligible(masks) for batch in batches])[:rows]
        return torch.cat([batch.activations for batch in batches])[:rows][counted]

    def batches(
        self, skip: int = 0, stop: int | None = None, *, units: bool = False
    ) -> Iterator[ActivationBatch]:
        """The batches of the first hook, from context `skip` on up to `stop`.

        `units`: whether they say what lies on one side of a split.
        """
        if not units:
            for captured in self.captured(skip, stop):
                yield captured.batch(0, self.norms.median)
            return
        self._units = Units(self.context_length, self._contexts_there)
        for captured in self.captured(skip, stop, self._units.starts):
            unit = torch.from_numpy(self._units.of(captured.contexts.document))
            yield replace(captured.batch(0, self.norms.median), unit=unit.to(self.device))

    @cached_property
    def _contexts_there(self) -> int:
        """How many contexts the text has, counted as far as `MANY`."""
        reader = ContextReader(self.settings.text, self.subject.tokenizer)
        batches = reader.batches(self.settings.batch_contexts, min(MANY, self.contexts))
        return sum(map(len, batches))

    def captured(
        self,
        skip: int = 0,
        stop: int | None = None,
        passed: Callable[[np.ndarray], object] = lambda _: None,
    ) -> Iterator[Captured]:
        """Every forward pass from context `skip` on up to `stop`.

        Contexts before `skip` are read but not run; `passed` is told of their documents.
        """
        last = self.contexts if stop is None else stop
        if skip > 0 or last < self.contexts:
            return self._captured(skip, last, passed)
        assert self.norm_samples
        assert self.widths
        return chain(self._drained(self._head), self._rest)

    def _drained(self, head: list[Captured]) -> Iterator[Captured]:
        """The held batches, let go as they are read."""
        while head:
            yield head.pop(0)

    @cached_property
    def _special(self) -> Tensor:
        ids = sorted(self.get_vocabulary().special_ids)
        return torch.tensor(ids, dtype=torch.int32, device=self.subject.device)

    def run(self, contexts: Contexts, first: int) -> Captured:
        """One forward pass over any contexts; `first` is the number of the first of them."""
        self._check_has(contexts)
        device = self.subject.device
        token_ids = torch.from_numpy(contexts.token_ids).to(device)
        valid = torch.from_numpy(contexts.valid).to(device)
        counted = torch.from_numpy(contexts.counted).to(device)
        found = activations_at(self.subject.model, self.hooks, token_ids, valid)
        mask = (
            valid * VALID
            + (valid & torch.isin(token_ids, self._special)) * SPECIAL
            + (valid & ~counted) * UNCOUNTED
        )
        rounded = [a.to(self.device, DTYPES[self.settings.dtype]) for a in found]
        return Captured(
            first, contexts, token_ids.to(self.device), mask.byte().to(self.device), rounded
        )

    def _captured(
        self, skip: int, last: int, passed: Callable[[np.ndarray], object] = lambda _: None
    ) -> Iterator[Captured]:
        first = skip
        for contexts in self.reader.batches(self.settings.batch_contexts, last, skip, passed):
            yield self.run(contexts, first)
            first += len(contexts)
        self._read_whole = last == self.contexts
        if self._read_whole:  # of a part it cannot be said how many of the rows are bad
            self.reader.rows.check()
