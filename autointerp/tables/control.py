"""A run and its control: scores of features that have nothing in common, unpaired."""

import numpy as np
import pandas as pd

from autointerp.config.settings import RANDOM_LABEL
from autointerp.metrics.unpaired import Unpaired, compare_unpaired
from autointerp.runs.directory import Run
from autointerp.scoring import chance_of
from autointerp.tables.compare import check_scored, scored
from autointerp.tables.read import load_scores

Compared = dict[tuple[str, str], Unpaired]  # by scorer and metric


def control_pair(a: Run, b: Run) -> tuple[Run, Run] | None:
    """(real, control) where one run is of random directions in place of the other's coder."""
    for real, control in ((a, b), (b, a)):
        of = (control.stage("collect").get("control") or {}).get("of")
        if of is not None and of == real.stage("collect").get("hashes", {}).get("coder"):
            return real, control
    return None


def against_control(real: Run, control: Run) -> Compared:
    """Every metric that both have. Raises AutointerpError where one is not scored."""
    check_scored(real, control)
    return _compared(scored(real), scored(control))


def against_other_labels(run: Run) -> Compared:
    """Of a run with control random-label: its scores against those of other features' labels.

    Metrics whose null is what chance gets are left out: it is the same for every feature.
    """
    if run.settings().text("control") != RANDOM_LABEL or not run.scores.is_file():
        return {}
    scores = load_scores(run.path)
    own, other = scores[scores["value"].notna()], scores[scores["null_value"].notna()]
    compared = _compared(own, other.assign(value=other["null_value"]))
    return {name: found for name, found in compared.items() if chance_of(*name) is None}


def _compared(real: pd.DataFrame, control: pd.DataFrame) -> Compared:
    first, second = (_by_metric(scores) for scores in (real, control))
    both = sorted(first.keys() & second.keys())
    return {name: compare_unpaired(first[name], second[name]) for name in both}


def _by_metric(scores: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    groups = scores.groupby(["scorer", "metric"], observed=True)["value"]
    return {(str(s), str(m)): values.to_numpy(np.float64) for (s, m), values in groups}
