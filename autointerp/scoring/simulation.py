"""Simulation: predict the activation on every token from the label (Bills et al. 2023)."""

import numpy as np

from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.scoring.scorer import Judged, Judgment, activating, shuffled, silent
from autointerp.scoring.statistics import Estimate, correlation

NAME = "simulation"
METRIC = "correlation"
HIGHEST = 10  # predictions run from 0 to this


def plan(evidence: FeatureEvidence, windows: int, seed: int) -> list[Window]:
    """Unseen windows to simulate: half activating, half silent, shuffled."""
    half = windows // 2
    chosen = activating(evidence, windows - half) + silent(evidence, half)
    return shuffled(chosen, evidence.feature, seed)


def judgment(window: Window, predicted: np.ndarray | None, max_activation: float) -> Judgment:
    """Truth and prediction on the scale 0 to HIGHEST, the feature's maximum being HIGHEST."""
    scale = HIGHEST / max_activation if max_activation > 0 else 0.0
    truth = (window.activations * scale).astype(np.float32)
    prediction = None if predicted is None else predicted.astype(np.float32)
    return Judgment(window, truth, prediction)


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over all tokens of the windows with a readable simulation."""
    readable = judged.readable()
    truths = [j.truth for j in readable]
    predictions = [j.prediction for j in readable if j.prediction is not None]
    return {METRIC: correlation(truths, predictions, seed)}
