"""What every scorer shares: choosing unseen windows, judged windows, and scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.evidence.window import FeatureEvidence, Window, spread
from autointerp.scoring.statistics import Estimate


@dataclass(frozen=True, slots=True)
class Judgment:
    """What a judge said of one window; `prediction` is None where it could not be read.

    Detection predicts one number (1: the label matches), simulation one for each token, in the
    units of `truth`.
    """

    window: Window
    truth: np.ndarray  # float32 [1] or [length]
    prediction: np.ndarray | None  # float32, shape of truth
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """All judgments of one scorer on one feature's windows, by the label of `label_of`.

    `unanswered` says that the judge could not be had, which another time may mend.
    """

    feature: int
    scorer: str
    label_of: int
    judgments: Sequence[Judgment]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    error: str | None = None
    unanswered: bool = False

    def readable(self) -> list[Judgment]:
        return [j for j in self.judgments if j.prediction is not None]


@dataclass(frozen=True, slots=True)
class Score:
    """One row of `scores.parquet`."""

    feature: int
    scorer: str
    metric: str
    estimate: Estimate
    null_value: float | None


def activating(evidence: FeatureEvidence, n: int) -> list[Window]:
    """Scoring windows in which the feature fires, over the range of its activations.

    A sample of firings is uniform over the corpus; only where it has too few do top windows of
    other contexts fill up.
    """
    sample = evidence.of("score", "sample")
    if len(sample) < n:
        contexts = {w.context for w in sample}
        sample = sample + [w for w in evidence.of("score", "top") if w.context not in contexts]
    return spread(sample, n)


def silent(evidence: FeatureEvidence, n: int) -> list[Window]:
    return evidence.of("score", "negative")[:n]


def shuffled(windows: Sequence[Window], feature: int, seed: int) -> list[Window]:
    """The windows in an order that says nothing of their class, the same on every run."""
    order = np.random.default_rng([seed, feature]).permutation(len(windows))
    return [windows[i] for i in order]
