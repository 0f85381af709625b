"""Windows with wrong tokens marked, alike to windows with the right ones in all but the words.

Activating windows have their peak at one place, so that in a whole window a mark at that place
would be right whatever the text. Hence three quarters of each window are shown, cut at random
around its peak. A wrong window is cut and marked so that its marks stand at exactly the places of a
right one's: number, runs, places and length of the excerpt say nothing, and only windows that fit
are used. Of those that do, the ones are taken whose marked tokens are about as frequent in the
corpus as the right ones (fuzzing that marks rare words for common ones is easy).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from autointerp.evidence.window import Window
from autointerp.evidence.window_text import is_marked
from autointerp.vocabulary import Vocabulary

if TYPE_CHECKING:
    from autointerp.evidence.corpus import Corpus

_SHOWN = 0.75  # of a window's tokens
_NEVER = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """A window, the part of it that is shown, and its marked tokens: bool [length]."""

    window: Window
    part: slice
    marks: np.ndarray

    def __post_init__(self) -> None:
        assert self.marks[self.part].any(), "nothing marked"


def shown_tokens(length: int) -> int:
    """How many tokens are shown of a window of `length`."""
    return int(np.ceil(_SHOWN * length))


def rightly_marked(window: Window, length: int, rng: np.random.Generator) -> Marked:
    """`length` tokens of an activating window, its peak among them, the active ones marked."""
    low = max(0, window.peak + 1 - length)
    begin = int(rng.integers(low, min(window.peak, len(window.token_ids) - length) + 1))
    part = slice(begin, begin + length)
    marks = np.zeros(len(window.token_ids), dtype=bool)
    marks[part] = is_marked(window.activations)[part]
    return Marked(window, part, marks)


class Hosts:
    """Windows to be marked wrongly, on tokens on which the feature is silent.

    Of those in which it fires the peak is always shown: that the feature is in the text, and not
    where the marks are, is what a judge has to see.
    """

    def __init__(
        self, windows: Sequence[Window], corpus: "Corpus", special: frozenset[int]
    ) -> None:
        self.windows = windows
        self._corpus = corpus
        self._lengths = np.array([len(w.token_ids) for w in windows], dtype=np.int64)
        shape = (len(windows), int(self._lengths.max(initial=0)))
        ids = np.full(shape, -1, dtype=np.int64)
        self._silent = np.zeros(shape, dtype=bool)
        for row, window in enumerate(windows):
            ids[row, : len(window.token_ids)] = window.token_ids
            self._silent[row, : len(window.token_ids)] = window.activations <= 0
        self._silent &= ~np.isin(ids, list(special))
        self._rarity = _rarity(ids, corpus)
        self._fires = np.array([w.fires for w in windows], dtype=bool)
        self._peaks = np.array([w.peak for w in windows], dtype=np.int64)

    def marked_like(self, right: Sequence[Marked], rng: np.random.Generator) -> list[Marked | None]:
        """For each of `right` another window, marked at the same places; None where none fits.

        Each window is used once, so that as many are served as can be, with least difference in
        how frequent marked tokens are.
        """
        from scipy.optimize import linear_sum_assignment  # slow to import, and seldom needed

        costs = np.full((len(right), len(self.windows)), _NEVER)
        begins = np.zeros(costs.shape, dtype=np.int64)
        for row, one in enumerate(right):
            costs[row], begins[row] = self._fit(one, rng)
        found: list[Marked | None] = [None] * len(right)
        for row, host in zip(*linear_sum_assignment(costs), strict=True):
            if costs[row, host] < _NEVER:
                window, begin = self.windows[host], int(begins[row, host])
                marks = np.zeros(len(window.token_ids), dtype=bool)
                part = slice(begin, begin + right[row].part.stop - right[row].part.start)
                marks[part] = right[row].marks[right[row].part]
                found[row] = Marked(window, part, marks)
        return found

    def _fit(self, one: Marked, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What each window costs, cut where it fits best, and where that is: both [windows]."""
        length = one.part.stop - one.part.start
        begins = np.arange(self._silent.shape[1] - length + 1)
        if not len(begins) or not len(self.windows):
            none = np.zeros(len(self.windows), dtype=np.int64)
            return np.full(len(self.windows), _NEVER), none
        places = np.flatnonzero(one.marks[one.part])
        at = begins[:, None] + places
        ids = one.window.token_ids[one.part][places].astype(np.int64)
        # [windows, begins, marks] → [windows, begins]
        cost = np.abs(self._rarity[:, at] - _rarity(ids, self._corpus)).mean(2)
        fits = self._silent[:, at].all(2) & (begins + length <= self._lengths[:, None])
        peak_shown = (begins <= self._peaks[:, None]) & (self._peaks[:, None] < begins + length)
        fits &= peak_shown | ~self._fires[:, None]
        # Of equal ones any: the first would be the window's beginning.
        cost = np.where(fits, cost + 1e-6 * rng.random(cost.shape), _NEVER)
        best = cost.argmin(1)
        return cost[np.arange(len(cost)), best], best


def _rarity(ids: np.ndarray, corpus: "Corpus") -> np.ndarray:
    """How rare tokens are in the corpus, on a scale of doublings."""
    return np.asarray(-np.log2(1 + corpus.counts(ids)))


def cut(one: Marked) -> Window:
    """The part that is shown as a window of its own; its text is still that of the whole one."""
    window, begin = one.window, one.part.start
    return replace(
        window,
        start=window.start + begin,
        peak=window.peak - begin,
        token_ids=window.token_ids[one.part],
        activations=window.activations[one.part],
    )


def whole(window: Window) -> Marked:
    """All of an activating window, its active tokens marked."""
    return Marked(window, slice(0, len(window.token_ids)), is_marked(window.activations))


def to_show(one: Marked, vocabulary: Vocabulary) -> Window:
    """The part that is shown as a window whose activations are its marks."""
    ids = one.window.token_ids[one.part]
    return replace(
        one.window,
        token_ids=ids,
        activations=one.marks[one.part].astype(np.float32),
        text=vocabulary.text(ids.tolist()),
    )
