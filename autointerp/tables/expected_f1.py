"""F1 to expect of labels that were not scored, from what is known of every label and those scored.

A labeler's confidence says little by itself, and what it says differs between models: so how it
goes with F1 is learned from the scored features of the run.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from autointerp.labeling.labeler import Candidate, Draft
from autointerp.metrics.expectation import MIN_MEASURED, expected
from autointerp.scoring.scorer import Score

EXPECTED = "expected_f1"
MEASURED = "population_f1"
_NEAREST = 20  # scored features, that say whether F1 can be known at a density
# Where a linear function of the logarithm of density may bend, as shares of the features.
_BENDS = (1 / 3, 2 / 3)


def expected_columns(
    drafts: Sequence[Draft],
    statistics: Sequence[Mapping[str, Any]],
    shared: pa.Array,
    scores: Mapping[int, Sequence[Score]],
) -> dict[str, pa.Array]:
    """The table's columns of expected F1; none where too few features were scored.

    statistics, shared (how many others have the label, null without one): a row a draft.
    """
    labeled = np.array([draft.label is not None for draft in drafts], dtype=bool)
    measured = np.full(len(drafts), np.nan)
    unknown = np.zeros(len(drafts), dtype=bool)
    for place, draft in enumerate(drafts):
        for score in scores.get(draft.feature, ()):
            if score.metric == MEASURED:
                measured[place] = score.estimate.value
                unknown[place] = np.isnan(measured[place]) and score.estimate.n > 0
    if (~np.isnan(measured[labeled])).sum() < MIN_MEASURED:
        return {}
    rows = np.flatnonzero(labeled).tolist()
    chosen = [drafts[row] for row in rows]
    confidence = np.array([d.confidence for d in chosen], dtype=float)  # NaN where there is none
    density = np.array([_density(statistics[row]) for row in rows])
    shares = shared.fill_null(0).to_numpy()[rows] > 0
    found = expected(measured[rows], confidence, _covariates(chosen, density, shares))
    assert found is not None
    # Where most of what was scored is unknown, those that are known are not like the others.
    told = ~_mostly(unknown[rows], unknown[rows] | ~np.isnan(measured[rows]), density)
    shown = np.zeros(len(drafts), dtype=bool)
    shown[rows] = told
    columns = {}
    for name, values in (
        (EXPECTED, found.value),
        (f"{EXPECTED}_ci_low", found.ci_low),
        (f"{EXPECTED}_ci_high", found.ci_high),
    ):
        full = np.zeros(len(drafts))
        full[rows] = values
        columns[name] = pa.array(full, pa.float32(), mask=~shown)
    return columns


def _mostly(unknown: np.ndarray, judged: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Whether most of the judged features nearest in density are unknown: bool [features]."""
    order = np.flatnonzero(judged)[np.argsort(density[judged], kind="stable")]
    before = np.concatenate([[0], np.cumsum(unknown[order])])
    n = min(_NEAREST, len(order))
    first = np.searchsorted(density[order], density) - n // 2
    first = np.clip(first, 0, len(order) - n)
    mostly: np.ndarray = before[first + n] - before[first] > n / 2
    return mostly


def _density(statistics: Mapping[str, Any]) -> float:
    """Of windows, as F1 is; of tokens where evidence of an earlier version has no other."""
    return float(statistics.get("window_density") or statistics["density"])


def _covariates(drafts: Sequence[Draft], density: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """What is known of labels beside their confidence: [drafts, covariates]."""
    logarithm = np.log10(np.maximum(density, 1e-9))
    bends = np.quantile(logarithm, _BENDS)
    candidates = [draft.candidates or () for draft in drafts]
    return np.column_stack(
        [
            logarithm,
            *(np.maximum(logarithm - bend, 0) for bend in bends),
            shares,
            [draft.rule is not None for draft in drafts],
            [draft.label_of is not None for draft in drafts],
            [len(draft.flags or ()) for draft in drafts],
            np.log1p([len(draft.meanings or ()) for draft in drafts]),
            [_best(of_feature) for of_feature in candidates],
            [_agreement(of_feature) for of_feature in candidates],
        ]
    )


def _best(candidates: Sequence[Candidate]) -> float:
    """Of the candidates that were judged on windows kept for choosing; NaN where none was."""
    found = [c.balanced_accuracy for c in candidates if c.balanced_accuracy is not None]
    return max(found, default=float("nan"))


def _agreement(candidates: Sequence[Candidate]) -> float:
    """The share of words that two candidates have in common, on average; NaN for fewer."""
    words = [set(candidate.label.casefold().split()) for candidate in candidates]
    shares = [len(a & b) / max(1, len(a | b)) for a, b in combinations(words, 2)]
    return float(np.mean(shares)) if shares else float("nan")
