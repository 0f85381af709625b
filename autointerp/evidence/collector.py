"""One exact pass over encoded activations that keeps every feature's evidence.

Per feature and context the best firing is a candidate; it is admitted only if it beats the k-th
best so far, and only then is its window cut from the batch. After warm-up nearly nothing is
admitted, so the pass costs little more than encoding. Memory is features × windows × length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.activations.batch import VALID, TokenBatch
from autointerp.evidence.selection import (
    NONE,
    Candidates,
    Selection,
    SelectionSpec,
    lexicographic_order,
    starts_of_groups,
)
from autointerp.evidence.statistics import Statistics
from autointerp.firings import Firings
from autointerp.hashing import LABEL, SCORE, VALIDATE, hash_integers, mix, split_of_contexts

_SPLITS = {"label": LABEL, "validate": VALIDATE, "score": SCORE}
# Odd, so that it has an inverse modulo 2^64 and window hashes can be moved to position zero.
_HASH_BASE = 0x9E3779B97F4A7C15 - (1 << 64)
_SAMPLE_SALT, _NEGATIVE_SALT, _START_SALT = 0x5A3, 0x2E6, 0x57A


@dataclass(frozen=True)
class CollectSettings:
    """`before`: tokens of a window that come before its peak, where the context has them."""

    length: int
    before: int
    selections: tuple[SelectionSpec, ...]
    seed: int


def _powers(base: int, n: int, device: torch.device) -> Tensor:
    """base^0 … base^(n-1) modulo 2^64, as int64 [n]."""
    ones = torch.full((n,), base, dtype=torch.int64, device=device)
    if n:
        ones[0] = 1
    return ones.cumprod(0)


def _inverse(base: int) -> int:
    """The inverse of an odd number modulo 2^64, as a signed integer."""
    inverse = pow(base % (1 << 64), -1, 1 << 64)
    return inverse - (1 << 64) if inverse >> 63 else inverse


@dataclass(frozen=True)
class _Contexts:
    """What a batch's contexts look like to window cutting; tensors [contexts, …]."""

    index: Tensor  # [contexts], in the cache
    split: Tensor  # [contexts]
    token_ids: Tensor  # int64 [contexts, length], -1 where not valid
    low: Tensor  # [contexts], first valid position
    high: Tensor  # [contexts], one past the last valid position
    prefix_hash: Tensor  # [contexts, length + 1]


@dataclass(frozen=True)
class _DrawnWindows:
    start: Tensor  # [contexts]
    fires: Tensor  # bool [contexts, rows]


class Collector:
    """Feed `add` every batch once, in any order; read `selections` and `statistics` after."""

    def __init__(
        self,
        features: Tensor,
        coder_features: int,
        context_length: int,
        settings: CollectSettings,
        device: torch.device,
    ) -> None:
        """`features`: int64 [rows], the coder's features to collect, ascending."""
        self.features = features.to(device)
        self.settings = settings
        self.device = device
        self.length = min(settings.length, context_length)
        self.before = min(settings.before, self.length - 1)
        self._row_of = torch.full((coder_features,), -1, dtype=torch.int64, device=device)
        self._row_of[self.features] = torch.arange(len(features), device=device)
        self.selections = [
            Selection(spec, len(features), self.length, device) for spec in settings.selections
        ]
        self.statistics = Statistics(len(features), device)
        self._drawn_windows = 0
        self._firing_windows = torch.zeros(len(features), dtype=torch.int64, device=device)
        self._base_powers = _powers(_HASH_BASE, context_length, device)
        self._inverse_powers = _powers(_inverse(_HASH_BASE), context_length + 1, device)

    def add(self, batch: TokenBatch, firings: Firings) -> None:
        """Take in one batch; `firings.token` counts the batch's tokens row by row."""
        contexts, context_length = batch.token_ids.shape
        eligible = batch.eligible()
        row = self._row_of[firings.feature]
        keep = eligible.flatten()[firings.token] & (row >= 0)
        row, token, value = row[keep], firings.token[keep], firings.value[keep]
        context = torch.div(token, context_length, rounding_mode="floor")
        position = token - context * context_length
        seen = self._describe(batch)
        draw = hash_integers(
            self.settings.seed ^ _SAMPLE_SALT, self.features[row], seen.index[context], position
        )
        self.statistics.add(
            row=row,
            value=value,
            token_id=batch.token_ids.flatten()[token],
            draw=draw,
            eligible=eligible,
            masked=batch.masked_counts(),
        )
        # Positive floats order as their bits do, so activations serve as integer priorities.
        size = value.view(torch.int32).long()
        cell = context * len(self.features) + row
        drawn = self._draw_windows(seen, context, position, row)
        for selection in self.selections:
            if selection.spec.kind == "negative":
                new = self._silent_candidates(selection, seen, drawn)
            else:
                priority = size if selection.spec.kind == "top" else draw
                new = self._firing_candidates(selection, seen, context, position, row, priority)
            if len(new.row) > 0:
                self._admit(selection, new, seen, cell, position, value, contexts)

    def _describe(self, batch: TokenBatch) -> _Contexts:
        contexts, length = batch.token_ids.shape
        valid = (batch.mask & VALID) != 0
        token_ids = torch.where(valid, batch.token_ids.long(), -1)
        low = valid.int().argmax(1)
        high = length - valid.flip(1).int().argmax(1)
        index = batch.first_context + torch.arange(contexts, device=self.device)
        terms = mix(token_ids) * self._base_powers[:length]
        prefix = torch.zeros((contexts, length + 1), dtype=torch.int64, device=self.device)
        prefix[:, 1:] = terms.cumsum(1)
        split = split_of_contexts(index, self.settings.seed)
        return _Contexts(index, split, token_ids, low, high, prefix)

    def _firing_candidates(
        self,
        selection: Selection,
        seen: _Contexts,
        context: Tensor,
        position: Tensor,
        row: Tensor,
        priority: Tensor,
    ) -> Candidates:
        """The best firing of each (feature, context) that might enter the selection."""
        keep = (priority >= selection.threshold()[row]) & (
            seen.split[context] == _SPLITS[selection.spec.split]
        )
        row, context, position = row[keep], context[keep], position[keep]
        priority = priority[keep]
        order = lexicographic_order(row, context, -priority, position)
        order = order[starts_of_groups(row[order], context[order])]
        return self._place(row[order], context[order], position[order], priority[order], seen)

    def _place(
        self, row: Tensor, context: Tensor, peak: Tensor, priority: Tensor, seen: _Contexts
    ) -> Candidates:
        """Candidates whose windows have their peak `before` tokens from the start, if they can."""
        low, high = seen.low[context], seen.high[context]
        start = torch.minimum(peak - self.before, high - self.length)
        start = self._within(torch.maximum(start, low), seen)
        return self._candidates(row, context, peak, start, priority, seen)

    def _within(self, start: Tensor, seen: _Contexts) -> Tensor:
        return start.clamp(0, seen.token_ids.shape[1] - self.length)

    def _candidates(
        self,
        row: Tensor,
        context: Tensor,
        peak: Tensor,
        start: Tensor,
        priority: Tensor,
        seen: _Contexts,
    ) -> Candidates:
        inside = seen.prefix_hash[context, start + self.length] - seen.prefix_hash[context, start]
        text_hash = inside * self._inverse_powers[start]
        return Candidates(row, priority, seen.index[context], peak, start, text_hash)

    def _draw_windows(
        self, seen: _Contexts, context: Tensor, position: Tensor, row: Tensor
    ) -> _DrawnWindows:
        """One window a context, at a place drawn by hash, and which features fire in it."""
        room = (seen.high - seen.low - self.length + 1).clamp(min=1)
        draw = hash_integers(self.settings.seed ^ _START_SALT, seen.index)
        start = self._within(seen.low + draw % room, seen)
        inside = (position >= start[context]) & (position < start[context] + self.length)
        fires = torch.zeros(
            (len(seen.index), len(self.features)), dtype=torch.bool, device=self.device
        )
        fires[context[inside], row[inside]] = True
        self._drawn_windows += len(seen.index)
        self._firing_windows += fires.sum(0)
        return _DrawnWindows(start, fires)

    def window_density(self) -> Tensor:
        """Share of windows, drawn one a context, in which each feature fires: float64 [rows]."""
        return self._firing_windows.double() / max(self._drawn_windows, 1)

    def _silent_candidates(
        self, selection: Selection, seen: _Contexts, drawn: _DrawnWindows
    ) -> Candidates:
        """The drawn windows as negatives of every feature that is silent in them."""
        wanted = (seen.split == _SPLITS[selection.spec.split]).nonzero().flatten()
        priority = hash_integers(
            self.settings.seed ^ _NEGATIVE_SALT,
            self.features.unsqueeze(0),
            seen.index[wanted].unsqueeze(1),
        )
        open_to = ~drawn.fires[wanted] & (priority >= selection.threshold())
        among, row = open_to.nonzero(as_tuple=True)
        context = wanted[among]
        start = drawn.start[context]
        return self._candidates(row, context, start, start, priority[among, row], seen)

    def _admit(
        self,
        selection: Selection,
        new: Candidates,
        seen: _Contexts,
        cell: Tensor,
        position: Tensor,
        value: Tensor,
        contexts: int,
    ) -> None:
        """Merge the candidates and cut the windows of those that were admitted."""
        source, row, place = selection.merge(new)
        if len(source) == 0:
            return
        context = new.context[source] - seen.index[0]
        start = new.start[source]
        span = start.unsqueeze(1) + torch.arange(self.length, device=self.device)
        token_ids = seen.token_ids[context.unsqueeze(1), span].int()
        activations = torch.zeros(token_ids.shape, device=self.device)
        if selection.spec.kind != "negative":
            window_of = torch.full(
                (contexts * len(self.features),), NONE, dtype=torch.int64, device=self.device
            )
            window_of[context * len(self.features) + row] = torch.arange(
                len(source), device=self.device
            )
            window = window_of[cell]
            hit = window != NONE
            window, offset = window[hit], position[hit]
            offset = offset - start[window]
            inside = (offset >= 0) & (offset < self.length)
            activations[window[inside], offset[inside]] = value[hit][inside]
        selection.put_windows(row, place, token_ids, activations)

    def drop_texts_shared_between_splits(self) -> int:
        """Drop later splits' windows whose tokens stand in an earlier one; returns how many."""
        dropped = 0
        for i, later in enumerate(self.selections):
            for earlier in self.selections[:i]:
                if earlier.spec.split != later.spec.split:
                    dropped += later.drop_texts_of(earlier)
        return dropped
