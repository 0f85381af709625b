"""Which features of two runs have anything in common that their scores could share."""

import numpy as np
import pandas as pd

from autointerp.runs.directory import Run
from autointerp.tables.collisions import folded
from autointerp.tables.read import load_labels


def related(a: Run, b: Run, features: np.ndarray) -> list[np.ndarray]:
    """Relations between features, as `metrics.clustered` takes them; features: int [n].

    In either run those whose labels came in one reply are related, and those that have the same
    label, ignoring case, as twins have.
    """
    found = []
    for run in (a, b):
        labels = load_labels(run.path).set_index("feature").reindex(features)
        found.append(_groups(labels["request"]))
        found.append(_groups(labels["label"].map(folded, na_action="ignore")))
    return found


def _groups(names: pd.Series) -> np.ndarray:
    """A number for each name, and one of its own for each that is missing: int [n]."""
    codes, known = pd.factorize(names)
    missing = codes < 0
    codes[missing] = len(known) + np.arange(missing.sum())
    return np.asarray(codes)
