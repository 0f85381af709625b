"""One exact pass over encoded activations that keeps every feature's evidence.

Per feature and context the best firing is a candidate; only those that may beat the k-th best so
far are looked at, and only then is a window cut from the batch. After warm-up that is nearly none,
so the pass costs little more than encoding. Memory is features × windows × length.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autointerp.activations.activation_batch import TokenBatch
from autointerp.activations.masks import MASKS, Mask
from autointerp.evidence.choosing import DroppedWindows, choose
from autointerp.evidence.corpus import CorpusSample, sample_bytes
from autointerp.evidence.cutting import (
    LAST_POSITION,
    ContextRows,
    FoundWindows,
    Places,
    SplitBy,
    contexts_of,
    cut,
    firings_within,
    found_firings,
    strongest_firings,
)
from autointerp.evidence.repeats import METHOD, Repeats
from autointerp.evidence.selection import (
    NONE,
    Selection,
    SelectionSpec,
    window_bytes,
)
from autointerp.evidence.statistics import Statistics, statistics_bytes
from autointerp.evidence.window import Kind
from autointerp.identity import settings_text
from autointerp.tensors.firings import Firings
from autointerp.tensors.hashing import (
    LABEL,
    SCORE,
    VALIDATE,
    continue_hash,
    end_hash,
    mix,
    start_hash,
)

_SPLITS = {"label": LABEL, "validate": VALIDATE, "score": SCORE}
_CONTEXT_BITS = 32  # of a priority that tells contexts apart
_PAIRS_AT_ONCE = 1 << 18
_SPARE = 4  # a window more for so many that are asked for
_NEVER = (1 << 63) - 1  # no priority is as high
_SAMPLE_SALT, _NEGATIVE_SALT = 0x5A3, 0x2E6
_TOKEN_SALT, _NEAR_MISS_SALT = 0x70C, 0x3E7


@dataclass(frozen=True)
class CollectSettings:
    """`before`: tokens of a window that come before its peak, where the context has them.

    `repeats`: of which windows of a feature only the best is kept. `masks`: which tokens do not
    count. `corpus`: windows of the corpus kept for all features together. `split`: what lies on one
    side of the split between windows to label and windows to score.
    """

    length: int
    before: int
    selections: tuple[SelectionSpec, ...]
    seed: int
    repeats: Repeats = "near"
    masks: tuple[Mask, ...] = MASKS
    corpus: int = 0
    # Runs from before there was a choice were split by context: left unnamed, it is theirs.
    split: SplitBy = "context"

    def places(self, spec: SelectionSpec) -> int:
        """How many windows a pass keeps: more than requested, to replace near-duplicates."""
        return spec.k if self.repeats == "none" else spec.k + math.ceil(spec.k / _SPARE)

    def identity(self) -> str:
        """Changes when what is collected does."""
        text = settings_text(self)
        return text if self.repeats == "none" else f"{text} {METHOD}"


def state_bytes(features: int, length: int, settings: CollectSettings) -> int:
    """Memory a collector keeps, whatever the number of tokens."""
    windows = sum(settings.places(spec) for spec in settings.selections)
    return features * (windows * window_bytes(length) + statistics_bytes())


def working_bytes(features: int, length: int, settings: CollectSettings) -> int:
    """Peak memory of a collector: it buffers as many windows as it keeps."""
    windows = sum(settings.places(spec) for spec in settings.selections)
    held_back = features * windows * window_bytes(length)
    corpus = sample_bytes(settings.corpus, length, features)
    return state_bytes(features, length, settings) + held_back + corpus


def _named(tables: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tables whose name begins so, by the rest of it."""
    return {n.removeprefix(prefix): t for n, t in tables.items() if n.startswith(prefix)}


class Collector:
    """Feed `add` every batch once, in any order, then `settle`; read `selections`, `statistics`."""

    def __init__(
        self,
        features: Tensor,
        encoded: Tensor,
        context_length: int,
        settings: CollectSettings,
        device: torch.device,
        similar: Tensor | None = None,
    ) -> None:
        """`features`: int64 [rows], the coder's features to collect, ascending.

        encoded: int64 [encoded], the features that firings number, ascending: these and others.
        similar: int64 [rows, n], for each row other encoded features; near misses need them.
        """
        self.features = features.to(device)
        self.settings = settings
        self.device = device
        self.length = min(settings.length, context_length)
        self.before = min(settings.before, self.length - 1)
        rows, encoded = len(features), encoded.to(device)
        self._encoded = len(encoded)
        # Both are None where every encoded feature is its own row.
        self._row_of: Tensor | None = None
        self._place: Tensor | None = None
        if rows < self._encoded:
            self._place = torch.searchsorted(encoded, self.features)
            self._row_of = torch.full((self._encoded,), -1, dtype=torch.int64, device=device)
            self._row_of[self._place] = torch.arange(rows, device=device)
        self._similar = None if similar is None else torch.searchsorted(encoded, similar.to(device))
        self.selections = [
            Selection(spec, settings.places(spec), rows, self.length, device)
            for spec in settings.selections
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
        self.corpus = CorpusSample(
            settings.corpus, self.length, self._encoded, settings.seed, device
        )
        self._drawn_windows = 0
        self._firing_windows = torch.zeros(rows, dtype=torch.int64, device=device)
        self._sample_state = start_hash(settings.seed ^ _SAMPLE_SALT, self.features)
        self._negative_state = start_hash(settings.seed ^ _NEGATIVE_SALT, self.features)
        self._near_miss_state = start_hash(settings.seed ^ _NEAR_MISS_SALT, self.features)
        self._mixed_position = mix(torch.arange(context_length, device=device))

    def _raise_floor(self, selection: Selection) -> None:
        rows = len(self.features)
        split = _SPLITS[selection.spec.split]
        floor = self._floor[selection.spec.kind]
        floor[split * rows : (split + 1) * rows] = selection.threshold()

    def add(self, batch: TokenBatch, firings: Firings) -> None:
        """Take in one batch; `firings.token` counts the batch's tokens row by row."""
        eligible = batch.eligible(self.settings.masks)
        choices = self.settings
        seen = contexts_of(batch, self.length, choices.seed, choices.repeats, choices.split)
        found = found_firings(firings, eligible, len(self.features), self._row_of, seen.is_shown)
        every = found
        if self._row_of is not None:
            every = found_firings(firings, eligible, self._encoded, None, seen.is_shown)
        strongest = strongest_firings(every, len(seen.index))
        place = found.context * batch.token_ids.shape[1] + found.position
        token_state = self._token_states(seen).index_select(0, place)
        self.statistics.add(
            row=found.row,
            value=found.value,
            token_id=batch.token_ids,
            place=place,
            draw=end_hash(token_state),
            eligible=eligible,
            masked=batch.masked_counts(self.settings.masks),
        )
        drawn = seen.drawn(choices.seed, self.before)
        self.corpus.add(seen, drawn, every)
        for kind in self._floor:
            if kind == "top":
                places = self._largest(seen, strongest)
            elif kind == "sample":
                places = self._drawn(seen, found, token_state)
            elif kind == "negative":
                places = self._silent(seen, found, drawn)
            else:
                places = self._near_misses(seen, strongest, found)
            self._offer(kind, places, seen, found)

    def settle(self) -> None:
        """Merge buffered windows and sort; call it after the last batch and before a checkpoint."""
        for selection in self.selections:
            selection.sort()
            self._raise_floor(selection)
        self.statistics.settle()

    def tables(self) -> dict[str, Tensor]:
        """Everything that is kept, by name: the tensors themselves."""
        found = {"firing_windows": self._firing_windows}
        for number, selection in enumerate(self.selections):
            found |= {f"selection.{number}.{n}": t for n, t in selection.tables().items()}
        found |= {f"corpus.{name}": t for name, t in self.corpus.tables().items()}
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
        self._check_shapes(tables)
        for name, table in self.tables().items():
            table.copy_(tables[name])
        self._drawn_windows = counters["drawn_windows"]
        self.statistics.restore_counters(counters["statistics"])
        for selection, repeats in zip(self.selections, counters["repeats"], strict=True):
            selection.repeats = repeats
            self._raise_floor(selection)

    def merge(self, tables: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Take in a settled collector of the same settings that saw other contexts, then settle.

        What is kept, counted and summed is the same as if this one had seen them itself, but for
        the counts of repeats: how many windows were met that repeat a better one depends on which
        were kept at the time, so that they say how many at least.
        Raises KeyError or ValueError where they are of another.
        """
        self._check_shapes(tables)
        for number, selection in enumerate(self.selections):
            selection.merge(_named(tables, f"selection.{number}."))
            selection.repeats += counters["repeats"][number]
        self.statistics.merge(_named(tables, "statistics."), counters["statistics"])
        self.corpus.merge(_named(tables, "corpus."))
        self._firing_windows += tables["firing_windows"].to(self.device)
        self._drawn_windows += counters["drawn_windows"]
        self.settle()

    def _check_shapes(self, tables: Mapping[str, Tensor]) -> None:
        own = self.tables()
        if any(own[name].shape != table.shape for name, table in tables.items()):
            raise ValueError("tables of another collector")

    def _token_states(self, seen: ContextRows) -> Tensor:
        """Hash states of every token by its context and position: [contexts × length]."""
        state = start_hash(self.settings.seed ^ _TOKEN_SALT, seen.index)
        return continue_hash(state.unsqueeze(1), self._mixed_position).flatten()

    def _largest(self, seen: ContextRows, strongest: Tensor) -> Places:
        """The largest activation of each feature and context, where it might be kept."""
        rows = len(self.features)
        if self._place is not None:
            strongest = strongest.index_select(1, self._place)
        # Positive floats order as their bits; equal ones are ordered by context.
        inverted = (1 << _CONTEXT_BITS) - 1 - seen.index
        priority = (strongest & ~LAST_POSITION) + inverted.unsqueeze(1)
        floor = self._floor["top"].view(len(_SPLITS), rows)[seen.split]
        kept = (strongest != NONE) & (priority >= floor)
        context, row = kept.nonzero(as_tuple=True)
        peak = LAST_POSITION - (strongest[context, row] & LAST_POSITION)
        start = seen.start_around(peak, context, self.before)
        return Places(row, context, peak, start, priority[context, row])

    def _drawn(self, seen: ContextRows, found: FoundWindows, token_state: Tensor) -> Places:
        """The firing of largest draw of each feature and context, where it might be kept.

        The draw is a hash of feature, context and position: a uniform one among all firings.
        """
        state = self._sample_state.index_select(0, found.row)
        priority = end_hash(continue_hash(state, token_state))
        slot = (seen.split * len(self.features)).index_select(0, found.context) + found.row
        kept = priority >= self._floor["sample"].index_select(0, slot)
        if found.is_shown is not None:
            kept &= found.is_shown
        kept = kept.nonzero().flatten()
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
        return Places(row, context, peak, seen.start_around(peak, context, self.before), priority)

    def _silent(self, seen: ContextRows, found: FoundWindows, start: Tensor) -> Places:
        """The window at `start` of every context, for every feature silent in it."""
        contexts, rows = len(seen.index), len(self.features)
        offset = found.position - start[found.context]
        inside = (offset >= 0) & (offset < self.length)
        if found.is_shown is not None:
            inside &= found.is_shown
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
        return Places(row, context, place, place, priority[context, row])

    def _near_misses(self, seen: ContextRows, strongest: Tensor, found: FoundWindows) -> Places:
        """The window around what fires most of the features similar to one that is silent in it.

        One a context and feature, drawn by hash among those there are.
        """
        assert self._similar is not None, "near misses need to know what is similar"
        rows = len(self.features)
        state = continue_hash(self._near_miss_state.unsqueeze(0), mix(seen.index).unsqueeze(1))
        priority = end_hash(state)
        floor = self._floor["near_miss"].view(len(_SPLITS), rows)[seen.split]
        context, row = (priority >= floor).nonzero(as_tuple=True)
        best = torch.full_like(row, NONE)
        for begin in range(0, len(row), _PAIRS_AT_ONCE):
            part = slice(begin, begin + _PAIRS_AT_ONCE)
            cells = (context[part] * self._encoded).unsqueeze(1) + self._similar[row[part]]
            found_best = strongest.flatten().index_select(0, cells.flatten())
            best[part] = found_best.view(cells.shape).amax(1)
        fires = (best != NONE).nonzero().flatten()
        context, row, best = context[fires], row[fires], best[fires]
        peak = LAST_POSITION - (best & LAST_POSITION)
        start = seen.start_around(peak, context, self.before)
        places = Places(row, context, peak, start, priority[context, row])
        window, _, _ = firings_within(places, seen, found)
        silent = torch.ones(len(row), dtype=torch.bool, device=self.device)
        silent[window] = False
        return places.take(silent.nonzero().flatten())

    def window_density(self) -> Tensor:
        """Share of windows, drawn one a context, in which each feature fires: float64 [rows]."""
        return self._firing_windows.double() / max(self._drawn_windows, 1)

    def _offer(self, kind: Kind, places: Places, seen: ContextRows, found: FoundWindows) -> None:
        """Cut the windows and give each selection of this kind those of its split."""
        if len(places.row) == 0:
            return
        split = seen.split[places.context]
        new = cut(places, seen, found if kind in ("top", "sample") else None)
        for selection in self.selections:
            if selection.spec.kind == kind:
                mine = (split == _SPLITS[selection.spec.split]).nonzero().flatten()
                if selection.offer(new, mine):
                    self._raise_floor(selection)

    def choose(self) -> DroppedWindows:
        """Reduce every selection to the requested windows; call it after `settle`."""
        found = choose(self.selections, self.settings.repeats)
        met = sum(selection.repeats for selection in self.selections)
        return DroppedWindows(met + found.repeats, found.shared)
