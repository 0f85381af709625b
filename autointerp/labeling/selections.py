"""Distinct selections of a feature's labeling windows, for relabeling it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.candidates import views
from autointerp.labeling.excerpts import Shown, shown_windows

_VIEWS = 3  # the usual one, firings of all strengths, the largest
_DRAWN = 200  # random parts, many of them alike where there are few windows


def selections(
    evidence: FeatureEvidence, shown: Shown, quantiles: int, seed: int
) -> Iterator[tuple[FeatureEvidence, Shown]]:
    """What to show of a feature, and how: no two show the same windows; always in this order.

    First the views that candidate labels are made from, then the usual one of random halves of the
    windows. Where there are hardly more windows than are shown, these lack but one of them.
    quantiles: of so many there are windows, at most.
    """
    every = [(evidence, view) for view in views(shown, _VIEWS, quantiles)]
    parts = ((_part(evidence, shown, [seed, evidence.feature, i]), shown) for i in range(_DRAWN))
    seen: set[frozenset[tuple[int, int]]] = {frozenset()}
    for of, view in chain(every, parts):
        windows = frozenset((w.context, w.start) for w in shown_windows(of, view))
        if windows not in seen:
            seen.add(windows)
            yield of, view


def _part(evidence: FeatureEvidence, shown: Shown, seed: list[int]) -> FeatureEvidence:
    """The feature with half of the windows that it could be labeled from, or as many as are shown.

    At least one of them is left out.
    """
    firing = evidence.of("label", "top", "sample")
    n = min(max(-(-len(firing) // 2), shown.top + shown.quantiles), len(firing) - 1)
    order = np.random.default_rng(seed).permutation(len(firing))
    left_out = {id(firing[i]) for i in order[max(n, 0) :]}
    return replace(evidence, windows=[w for w in evidence.windows if id(w) not in left_out])
