"""Detection: which of these windows does the label match? (Paulo et al. 2024, section 3.2)"""

import numpy as np

from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.scoring.scorer import Judged, Judgment, activating, shuffled, silent
from autointerp.scoring.statistics import Estimate, balanced_accuracy, population

NAME = "detection"
METRIC = "balanced_accuracy"


def plan(evidence: FeatureEvidence, per_class: int, seed: int) -> list[Window]:
    """Unseen windows to judge, activating and silent ones shuffled together."""
    chosen = activating(evidence, per_class) + silent(evidence, per_class)
    return shuffled(chosen, evidence.feature, seed)


def judgment(window: Window, matches: bool | None, probability: float | None = None) -> Judgment:
    truth = np.array([window.fires], dtype=np.float32)
    prediction = None if matches is None else np.array([matches], dtype=np.float32)
    return Judgment(window, truth, prediction, probability)


def reduce(judged: Judged, window_density: float, seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows with a readable judgment."""
    readable = judged.readable()
    truth = np.array([j.truth[0] > 0 for j in readable], dtype=bool)
    prediction = np.array(
        [j.prediction is not None and j.prediction[0] > 0 for j in readable], dtype=bool
    )
    return {METRIC: balanced_accuracy(truth, prediction)} | population(
        truth, prediction, window_density, seed
    )
