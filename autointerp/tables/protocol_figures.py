"""The figures that other tools publish, of a run that follows their protocols."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.metrics.confusion import confusion
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.tables.migrate import current, open_table
from autointerp.tables.read import load_scores

_POOLED = ("balanced_accuracy", "f1", "precision", "recall")
_COLUMNS = ["feature", "label_of", "scorer", "truth", "prediction", "parsed"]
_BATCH = 1 << 16


def load_protocol_figures(run: str | Path) -> pd.DataFrame:
    """One row a figure, of scorers that follow another tool's protocol; empty without any.

    `figure` is "mean", over features, with its sample standard deviation `sd`, or "pooled": over
    the windows of all features together, as Delphi's summary has it. `n` counts the features of a
    mean and the readable windows of what is pooled. Only features' own labels count.

    Raises AutointerpError where the run has no scores yet.
    """
    scores = load_scores(run)
    rows: list[dict[str, Any]] = []
    for name, scorer in SCORERS.items():
        if scorer.protocol is None:
            continue
        of_scorer = scores[(scores["scorer"] == name) & (scores["metric"] == scorer.metric)]
        values = of_scorer["value"].dropna().to_numpy(np.float64)
        row = {"protocol": scorer.protocol.name, "scorer": name}
        if len(values):
            sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            mean = {"metric": scorer.metric, "value": float(values.mean()), "sd": sd}
            rows.append(row | mean | {"figure": "mean", "n": len(values)})
        if len(values) and scorer.protocol.pooled:
            truth, said = _answers(Run(Path(run)).predictions, name)
            counts = confusion(truth, said)
            for metric in _POOLED:
                value = float(getattr(counts, metric))
                pooled = {"metric": metric, "value": value, "sd": float("nan")}
                rows.append(row | pooled | {"figure": "pooled", "n": len(truth)})
    return pd.DataFrame(
        rows, columns=["protocol", "scorer", "figure", "metric", "value", "sd", "n"]
    )


def _answers(path: Path, scorer: str) -> tuple[np.ndarray, np.ndarray]:
    """Truths and predictions of all windows that could be read, by their own label: bool [n]."""
    parts: list[np.ndarray] = []
    own = (
        (pc.field("scorer") == scorer)
        & (pc.field("feature") == pc.field("label_of"))
        & pc.field("parsed")
    )
    for batch in open_table(path).iter_batches(_BATCH, columns=_COLUMNS):
        table = current(pa.table(batch), path).filter(own)
        parts.append(np.stack([table[n].to_numpy() > 0 for n in ("truth", "prediction")]))
    truth, said = np.concatenate([np.zeros((2, 0), bool), *parts], axis=1)
    return truth, said
