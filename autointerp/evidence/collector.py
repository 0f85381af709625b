"""One exact pass over encoded activations that keeps every feature's evidence.

Per feature and context the best firing is a candidate; only those that may beat the k-th best so
far are looked at, and only then is a window cut from the batch. After warm-up that is nearly none,
so the pass costs little more than encoding. Memory is features × windows × length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autointerp.activations.batch import VALID, TokenBatch
from autointerp.activations.masks import MASKS, Mask
from autointerp.evidence.repeats import Repeats, text_keys
from autointerp.evidence.selection import (
    NONE,
    Candidates,
    Selection,
    SelectionSpec,
    window_bytes,
)
from autointerp.evidence.statistics import Statistics, statistics_bytes
from autointerp.evidence.window import Kind
from autointerp.firings import Firings
from autointerp.hashing import (
    LABEL,
    SCORE,
    VALIDATE,
    continue_hash,
    end_hash,
    hash_integers,
    mix,
    split_of_contexts,
    start_hash,
)

_SPLITS = {"label": LABEL, "validate": VALIDATE, "score": SCORE}
_CONTEXT_BITS = 32  # of a priority that tells contexts apart
_NEVER = (1 << 63) - 1  # no priority is as high
_SAMPLE_SALT, _NEGATIVE_SALT, _START_SALT, _TOKEN_SALT = 0x5A3, 0x2E6, 0x57A, 0x70C


@dataclass(frozen=True)
class CollectSettings:
    """`before`: tokens of a window that come before its peak, where the context has them.

    `repeats`: of which windows of a feature only the best is kept. `masks`: which tokens do not
    count.
    """

    length: int
    before: int
    selections: tuple[SelectionSpec, ...]
    seed: int
    repeats: Repeats = "near"
    masks: tuple[Mask, ...] = MASKS


def state_bytes(features: int, length: int, settings: CollectSettings) -> int:
    """What a collector keeps, however many tokens it sees; a merge takes up to as much again."""
    windows = sum(spec.k for spec in settings.selections)
    return features * (windows * window_bytes(length) + statistics_bytes())


@dataclass(frozen=True)
class _Contexts:
    """What a batch's contexts look like to window cutting; tensors [contexts, …]."""

    index: Tensor  # [contexts], in the cache
    split: Tensor  # [contexts]
    has_text: Tensor  # bool [contexts]: not all padding
    token_ids: Tensor  # int32 [contexts, length], -1 where not valid
    low: Tensor  # [contexts], first valid position
    high: Tensor  # [contexts], one past the last valid position
    text_key: Tensor  # [contexts, starts of windows]


@dataclass(frozen=True)
class _Firings:
    """Those of collected features on tokens that count: tensors [firings], ordered by token."""

    row: Tensor
    context: Tensor  # in the batch
    position: Tensor
    value: Tensor  # float32
    cell: Tensor  # context × rows + row

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class _Places:
    """Where windows are to be cut: tensors [windows]."""

    row: Tensor
    context: Tensor  # in the batch
    peak: Tensor
    start: Tensor
    priority: Tensor


class Collector:
    """Feed `add` every batch once, in any order, then `settle`; read `selections`, `statistics`."""

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
        rows = len(features)
        self._row_of: Tensor | None = None  # None where every feature is its own row
        if rows < coder_features:
            self._row_of = torch.full((coder_features,), -1, dtype=torch.int64, device=device)
            self._row_of[self.features] = torch.arange(rows, device=device)
        self.selections = [
            Selection(spec, rows, self.length, device) for spec in settings.selections
        ]
        # What a candidate must reach to be of use, for each kind: [splits × rows].
        kinds = dict.fromkeys(spec.kind for spec in settings.selections)
        self._floor = {
            kind: torch.full((len(_SPLITS) * rows,), _NEVER, dtype=torch.int64, device=device)
            for kind in kinds
        }
        for selection in self.selections:
            self._raise_floor(selection)
        self.statistics = Statistics(rows, device)
        self._drawn_windows = 0
        self._firing_windows = torch.zeros(rows, dtype=torch.int64, device=device)
        self._draw_state = start_hash(settings.seed ^ _SAMPLE_SALT, self.features)
        self._negative_state = start_hash(settings.seed ^ _NEGATIVE_SALT, self.features)
        self._mixed_position = mix(torch.arange(context_length, device=device))

    def _raise_floor(self, selection: Selection) -> None:
        rows = len(self.features)
        split = _SPLITS[selection.spec.split]
        floor = self._floor[selection.spec.kind]
        floor[split * rows : (split + 1) * rows] = selection.threshold()

    def add(self, batch: TokenBatch, firings: Firings) -> None:
        """Take in one batch; `firings.token` counts the batch's tokens row by row."""
        eligible = batch.eligible(self.settings.masks)
        seen = self._describe(batch)
        found = self._counted(firings, eligible)
        draw = self._draws(found, seen)
        place = found.context * batch.token_ids.shape[1] + found.position
        self.statistics.add(
            row=found.row,
            value=found.value,
            token_id=batch.token_ids,
            place=place,
            draw=self._token_draws(seen).flatten().index_select(0, place),
            eligible=eligible,
            masked=batch.masked_counts(self.settings.masks),
        )
        for kind in self._floor:
            if kind == "negative":
                places = self._silent(seen, found)
            else:
                priority = draw if kind == "sample" else self._sizes(found, seen)
                places = self._best_firings(kind, seen, found, priority)
            self._offer(kind, places, seen, found)

    def settle(self) -> None:
        """Merge what is held back and sort it; after the last batch, and before a checkpoint."""
        for selection in self.selections:
            selection.sort()
            self._raise_floor(selection)
        self.statistics.settle()

    def tables(self) -> dict[str, Tensor]:
        """Everything that is kept, by name: the tensors themselves."""
        found = {"firing_windows": self._firing_windows}
        for number, selection in enumerate(self.selections):
            found |= {f"selection.{number}.{n}": t for n, t in selection.tables().items()}
        return found | {f"statistics.{n}": t for n, t in self.statistics.tables().items()}

    def counters(self) -> dict[str, Any]:
        """What is counted beside the tables."""
        return {
            "drawn_windows": self._drawn_windows,
            "repeats": [selection.repeats for selection in self.selections],
            "statistics": self.statistics.counters(),
        }

    def restore(self, tables: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Take the tables and counters of a settled collector of the same settings.

        Raises KeyError or ValueError where they are of another.
        """
        own = self.tables()
        if any(own[name].shape != table.shape for name, table in tables.items()):
            raise ValueError("tables of another collector")
        for name, table in own.items():
            table.copy_(tables[name])
        self._drawn_windows = counters["drawn_windows"]
        self.statistics.restore_counters(counters["statistics"])
        for selection, repeats in zip(self.selections, counters["repeats"], strict=True):
            selection.repeats = repeats
            self._raise_floor(selection)

    def _counted(self, firings: Firings, eligible: Tensor) -> _Firings:
        """The firings on tokens that count, of features that are collected."""
        token, row, value = firings.token, firings.feature, firings.value
        counts = eligible.flatten().index_select(0, token)
        if self._row_of is not None:
            row = self._row_of.index_select(0, row)
            counts &= row >= 0
        kept = counts.nonzero().flatten()
        token, row, value = (column.index_select(0, kept) for column in (token, row, value))
        length = eligible.shape[1]
        context = torch.div(token, length, rounding_mode="floor")
        position = token - context * length
        return _Firings(row, context, position, value, context * len(self.features) + row)

    def _draws(self, found: _Firings, seen: _Contexts) -> Tensor:
        """A hash of feature, context and position for every firing: a uniform draw of them."""
        state = self._draw_state.index_select(0, found.row)
        state = continue_hash(state, mix(seen.index).index_select(0, found.context))
        return end_hash(continue_hash(state, self._mixed_position.index_select(0, found.position)))

    def _token_draws(self, seen: _Contexts) -> Tensor:
        """A hash of context and position for every token, the same for all features."""
        state = start_hash(self.settings.seed ^ _TOKEN_SALT, seen.index)
        return end_hash(continue_hash(state.unsqueeze(1), self._mixed_position))

    def _sizes(self, found: _Firings, seen: _Contexts) -> Tensor:
        """Activations as priorities, equal ones by context: positive floats order as their bits."""
        bits = found.value.view(torch.int32).long() << _CONTEXT_BITS
        return bits + ((1 << _CONTEXT_BITS) - 1 - seen.index).index_select(0, found.context)

    def _describe(self, batch: TokenBatch) -> _Contexts:
        contexts, length = batch.token_ids.shape
        valid = (batch.mask & VALID) != 0
        token_ids = torch.where(valid, batch.token_ids, -1)
        low = valid.int().argmax(1)
        high = length - valid.flip(1).int().argmax(1)
        index = batch.first_context + torch.arange(contexts, device=self.device)
        split = split_of_contexts(index, self.settings.seed)
        key = text_keys(token_ids, self.length, self.settings.repeats)
        if self.settings.repeats == "none":
            key = key + batch.first_context
        return _Contexts(index, split, valid.any(1), token_ids, low, high, key)

    def _best_firings(
        self, kind: Kind, seen: _Contexts, found: _Firings, priority: Tensor
    ) -> _Places:
        """The best firing of each feature and context, where it might be kept."""
        slot = (seen.split * len(self.features)).index_select(0, found.context) + found.row
        kept = (priority >= self._floor[kind].index_select(0, slot)).nonzero().flatten()
        cell, priority = found.cell[kept], priority[kept]
        cells = len(seen.index) * len(self.features)
        best = torch.full((cells,), NONE, dtype=torch.int64, device=self.device)
        best.scatter_reduce_(0, cell, priority, "amax")
        is_best = (priority == best[cell]).nonzero().flatten()
        kept, cell, priority = kept[is_best], cell[is_best], priority[is_best]
        # Firings are ordered by position: where several are best, the first is meant.
        first = best.fill_(len(kept))
        first.scatter_reduce_(0, cell, torch.arange(len(kept), device=self.device), "amin")
        is_first = first[cell] == torch.arange(len(kept), device=self.device)
        kept, priority = kept[is_first], priority[is_first]
        row, context, peak = found.row[kept], found.context[kept], found.position[kept]
        # The peak is `before` tokens from the start, where the context has them.
        start = torch.minimum(peak - self.before, seen.high[context] - self.length)
        start = self._within(torch.maximum(start, seen.low[context]), seen)
        return _Places(row, context, peak, start, priority)

    def _within(self, start: Tensor, seen: _Contexts) -> Tensor:
        return start.clamp(0, seen.token_ids.shape[1] - self.length)

    def _silent(self, seen: _Contexts, found: _Firings) -> _Places:
        """One window a context, at a place drawn by hash, for every feature silent in it."""
        contexts, rows = len(seen.index), len(self.features)
        room = (seen.high - seen.low - self.length + 1).clamp(min=1)
        draw = hash_integers(self.settings.seed ^ _START_SALT, seen.index)
        start = self._within(seen.low + draw % room, seen)
        offset = found.position - start[found.context]
        inside = (offset >= 0) & (offset < self.length)
        fires = torch.zeros(contexts * rows, dtype=torch.bool, device=self.device)
        fires[found.cell[inside]] = True
        fires = fires.view(contexts, rows)
        self._drawn_windows += int(seen.has_text.sum())
        self._firing_windows += fires.sum(0)
        state = continue_hash(self._negative_state.unsqueeze(0), mix(seen.index).unsqueeze(1))
        priority = end_hash(state)
        floor = self._floor["negative"].view(len(_SPLITS), rows)[seen.split]
        silent = ~fires & seen.has_text.unsqueeze(1)
        context, row = (silent & (priority >= floor)).nonzero(as_tuple=True)
        place = start[context]
        return _Places(row, context, place, place, priority[context, row])

    def window_density(self) -> Tensor:
        """Share of windows, drawn one a context, in which each feature fires: float64 [rows]."""
        return self._firing_windows.double() / max(self._drawn_windows, 1)

    def _offer(self, kind: Kind, places: _Places, seen: _Contexts, found: _Firings) -> None:
        """Cut the windows and give each selection of this kind those of its split."""
        if len(places.row) == 0:
            return
        split = seen.split[places.context]
        new = self._cut(kind, places, seen, found)
        for selection in self.selections:
            if selection.spec.kind == kind:
                mine = (split == _SPLITS[selection.spec.split]).nonzero().flatten()
                if selection.offer(new, mine):
                    self._raise_floor(selection)

    def _cut(self, kind: Kind, places: _Places, seen: _Contexts, found: _Firings) -> Candidates:
        context, start = places.context, places.start
        first = context * seen.token_ids.shape[1] + start
        windows_at = (seen.token_ids.numel() - self.length + 1, self.length)
        # A view of all windows there are: picking rows of it is many times as fast as indexing.
        token_ids = seen.token_ids.as_strided(windows_at, (1, 1)).index_select(0, first)
        activations = torch.zeros(token_ids.shape, device=self.device)
        if kind != "negative":
            cells = len(seen.index) * len(self.features)
            window_of = torch.full((cells,), NONE, dtype=torch.int64, device=self.device)
            windows = torch.arange(len(context), device=self.device)
            window_of[context * len(self.features) + places.row] = windows
            window = window_of.index_select(0, found.cell)
            hit = (window != NONE).nonzero().flatten()
            window = window[hit]
            offset = found.position[hit] - start[window]
            inside = ((offset >= 0) & (offset < self.length)).nonzero().flatten()
            activations[window[inside], offset[inside]] = found.value[hit[inside]]
        return Candidates(
            places.row,
            places.priority,
            seen.index[context],
            places.peak,
            start,
            seen.text_key[context, start],
            token_ids,
            activations,
        )

    def drop_texts_shared_between_splits(self) -> int:
        """Drop later splits' windows whose tokens stand in an earlier one; returns how many."""
        dropped = 0
        for i, later in enumerate(self.selections):
            for earlier in self.selections[:i]:
                if earlier.spec.split != later.spec.split:
                    dropped += later.drop_texts_of(earlier)
        return dropped
