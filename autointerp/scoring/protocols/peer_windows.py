"""Windows as other tools choose them, from those that are kept for scoring.

Each rule is that of the tool's own code, on a list of windows that is ranked by their largest
activation; tests/scoring/protocols compares what is chosen with what theirs chooses.
"""

import random
from collections.abc import Sequence

import numpy as np

from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.scoring.scorer import Material


def ranked(windows: Sequence[Window]) -> list[Window]:
    """One window a context, the strongest first."""
    order = sorted(windows, key=lambda w: (-float(w.activations.max(initial=0.0)), w.context))
    first: dict[int, Window] = {}
    for window in order:
        first.setdefault(window.context, window)
    return list(first.values())


def strongest(evidence: FeatureEvidence) -> list[Window]:
    """All unseen windows in which the feature fires; the first of them are the corpus's first."""
    return ranked(evidence.of("score", "top", "sample"))


def sampled(evidence: FeatureEvidence, n: int) -> list[Window]:
    """Unseen windows of a uniform sample of firings, ranked; filled up with top ones below `n`."""
    sample = evidence.of("score", "sample")
    return ranked(sample) if len(sample) >= n else strongest(evidence)


def by_quantiles(
    windows: Sequence[Window], n: int, quantiles: int, rng: random.Random
) -> list[Window]:
    """n / quantiles drawn from each of so many slices, equal in windows, of a ranked list.

    Delphi's `split_quantiles`: of a slice that has no more all are taken, and what is left over by
    the division is not used. `rng` draws as its own does.
    """
    size, wanted = len(windows) // quantiles, n // quantiles
    slices = [windows[i * size : (i + 1) * size] for i in range(quantiles)]
    drawn = [part if size < wanted else rng.sample(part, wanted) for part in slices]
    return [window for part in drawn for window in part]


def interleaved(windows: Sequence[Window], n: int, splits: int, place: int) -> list[Window]:
    """`n` of a ranked list, as neuron-explainer's `get_slices_for_splits` deals it out.

    The first n · splits go in turn to so many splits; these are of the one at `place`, from 0.
    """
    return list(windows[place : n * splits : splits])


def weighted(windows: Sequence[Window], n: int, rng: np.random.Generator) -> list[Window]:
    """`n` drawn one after another without replacement, ∝ the square of the largest activation.

    SAEBench's `get_iw_sample_indices`. By exponential clocks, which ring in that order (Efraimidis
    and Spirakis 2006).
    """
    squares = np.array([float(w.activations.max(initial=0.0)) ** 2 for w in windows])
    clocks = rng.standard_exponential(len(windows)) / np.maximum(squares, 1e-300)
    return [windows[i] for i in np.argsort(clocks, kind="stable")[:n]]


def drawn_from_all(material: Material, n: int) -> list[tuple[int, bool]]:
    """`n` windows of the corpus sample, whatever they hold: their numbers, and whether it fires."""
    feature = material.evidence.feature
    rng = np.random.default_rng([material.seed, feature, 0xA11])
    fires = set(material.corpus.firing(feature).tolist())
    return [(int(i), int(i) in fires) for i in rng.permutation(len(material.corpus))[:n]]
