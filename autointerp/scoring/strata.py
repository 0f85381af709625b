"""Inactive windows in strata of difficulty, each with its share of the corpus.

A judge's false alarms are rare where nothing speaks for the feature. Most come from the few windows
where something does: those in which a similar feature fires, those with a token on which the
feature fires elsewhere, and those that are like the label. Judging some of each kind and weighing
by the kinds' shares says as much of the whole corpus as many times the windows drawn at random
(Oikarinen et al. 2026, importance sampling; stratified estimates: Cochran 1977, section 5).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autointerp.evidence.window import FeatureEvidence

if TYPE_CHECKING:
    from autointerp.evidence.corpus import Corpus

SIMILAR, SAME_TOKEN, LABEL, OTHER = "similar", "same_token", "label", "other"
STRATA = (SIMILAR, SAME_TOKEN, LABEL, OTHER)
_MAX_SHARE = 0.1  # of the inactive windows, in a hard stratum: one of all would say nothing
_TOKENS = 20  # that a feature fires on, most often first, of which windows are looked for
_QUOTA = {SIMILAR: 0.2, SAME_TOKEN: 0.2, LABEL: 0.2}  # of the windows to judge; the rest are others
_FREQUENT, _RARE = 0.1, 1e-4  # window densities, beyond which the number of windows stays the same
_PER_DECADE = 0.5  # windows for each activating one, more for a feature a tenth as frequent


@dataclass(frozen=True)
class Stratum:
    """`windows`: indices in the corpus sample; `share`: of all windows where it is inactive."""

    name: str
    windows: np.ndarray
    share: float


def strata_of(
    corpus: "Corpus", evidence: FeatureEvidence, like_label: Iterable[np.ndarray] = ()
) -> list[Stratum]:
    """The inactive windows of the sample, each in one stratum; empty strata are dropped.

    like_label: windows that are like the label of the feature, the most telling set first.
    """
    silent = np.ones(len(corpus), dtype=bool)
    silent[corpus.firing(evidence.feature)] = False
    free = silent.copy()
    found = {}
    for name, sources in (
        (SIMILAR, (corpus.firing(f) for f in similar_features(evidence))),
        (SAME_TOKEN, (corpus.having(t) for t in _tokens(evidence))),
        (LABEL, like_label),
    ):
        found[name] = _gather(sources, free, _MAX_SHARE * silent.sum())
        free[found[name]] = False
    found[OTHER] = np.flatnonzero(free)
    total = max(int(silent.sum()), 1)
    return [Stratum(n, found[n], len(found[n]) / total) for n in STRATA if len(found[n])]


def windows_for(density: float, activating: int) -> int:
    """How many non-activating windows to judge: the more, the rarer the feature.

    What is said of the precision of a feature that fires in a tenth of the windows rests on a few
    alarms; of one that fires in a thousandth, on nearly none being raised.
    """
    decades = np.log10(_FREQUENT / np.clip(density, _RARE, _FREQUENT))
    return round(activating * (1 + _PER_DECADE * float(decades)))


def similar_features(evidence: FeatureEvidence) -> list[int]:
    """Features alike in what they write or in where they fire, the most alike first."""
    ranked = sorted([*evidence.similar, *evidence.coactive], key=lambda pair: (-pair[1], pair[0]))
    return list(dict.fromkeys(feature for feature, _ in ranked))


def _tokens(evidence: FeatureEvidence) -> list[int]:
    """The tokens on which it fires most, as the labeling windows show them, most often first."""
    peaks = (int(w.token_ids[w.peak]) for w in evidence.of("label", "sample", "top"))
    return [token for token, _ in Counter(peaks).most_common(_TOKENS)]


def _gather(sources: Iterable[np.ndarray], free: np.ndarray, most: float) -> np.ndarray:
    """Free windows of source after source; one with which there would be too many is passed by."""
    left = free.copy()
    found: list[np.ndarray] = []
    total = 0
    for windows in sources:
        new = windows[left[windows]]
        if total + len(new) <= most:
            left[new] = False
            total += len(new)
            found.append(new)
    return np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)


def draw(
    strata: Sequence[Stratum], n: int, feature: int, seed: int, *, steady: bool = False
) -> list[tuple[str, int]]:
    """About `n` windows as (stratum, number in the sample): of hard strata their quota.

    Drawn without replacement, for each feature by itself. Where a stratum has too few, others make
    up for it. steady: by an order of all windows that does not depend on the strata, so that
    windows which are in the same stratum for two labels are mostly drawn for both.
    """
    rng = np.random.default_rng([seed, feature, 0x57A7])
    if steady:
        place = rng.random(max((int(s.windows.max()) for s in strata), default=-1) + 1)
        orders = {s.name: s.windows[np.argsort(place[s.windows])] for s in strata}
    else:
        orders = {s.name: rng.permutation(s.windows) for s in strata}
    counts = {name: min(round(n * _QUOTA.get(name, 0)), len(o)) for name, o in orders.items()}
    for name in (OTHER, SAME_TOKEN, SIMILAR, LABEL):
        missing = n - sum(counts.values())
        if name in counts:
            counts[name] = min(counts[name] + missing, len(orders[name]))
    return [(name, int(i)) for name, order in orders.items() for i in order[: counts[name]]]


def draw_uniform(strata: Sequence[Stratum], n: int, feature: int, seed: int) -> list[int]:
    """`n` silent windows drawn uniformly, or all there are."""
    if not strata:
        return []
    rng = np.random.default_rng([seed, feature, 0x0417])
    every = np.sort(np.concatenate([s.windows for s in strata]))
    return [int(i) for i in rng.permutation(every)[:n]]
