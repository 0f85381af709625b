"""Two runs' judgments of the same windows: whether a feature's labels differ, by a paired test.

Read from `predictions.parquet` a batch after another; of what is predicted token by token only six
numbers a window are kept.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.metrics.paired import aurocs_apart, correlations_apart, mcnemar, token_moments
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import FIRES
from autointerp.scoring.strata import SIMILAR
from autointerp.tables.migrate import current, open_table

_BATCH = 1 << 16
# What makes two judgments of one thing. Which stratum a window is in may depend on the label, but
# marks of the same window are of one kind or another.
_WINDOW = ["feature", "kind", "rank", "fires", "marks"]
_APART = ("top_window", "random_window")  # strata of metrics of their own
_MOMENTS = [f"moment_{place}" for place in range(6)]
_COLUMNS = [
    *("feature", "scorer", "window", "stratum", "marks", "label_of", "parsed"),
    *("truth", "prediction", "probability", "token_truth", "token_prediction"),
]
# Of questions with two answers: metric → the windows that it is of.
_ANSWERED: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "accuracy": lambda rows: rows["truth"] >= 0,
    "balanced_accuracy": lambda rows: rows["truth"] >= 0,
    "near_miss_balanced_accuracy": lambda rows: (rows["truth"] > 0) | (rows["stratum"] == SIMILAR),
    "population_recall": lambda rows: rows["truth"] > 0,
}


def have_same_windows(a: Run, b: Run) -> bool:
    """Whether both runs are of the same evidence, and kept what judges said of it."""
    collected = [run.stages().collect for run in (a, b)]
    inputs = [made.inputs if made else None for made in collected]
    kept = a.predictions.is_file() and b.predictions.is_file()
    return kept and inputs[0] is not None and inputs[0] == inputs[1]


def paired_tests(a: Run, b: Run) -> pd.DataFrame:
    """Columns feature, scorer, metric and p, the p value that both labels do as well.

    Of windows that both runs have judged by the feature's own label. Of answers it is McNemar's
    test of which are right, for accuracies and recall; of predicted activations that of their
    correlation, of other graded predictions that of AUROC (see `metrics.paired`). Other metrics
    have no rows, nor has any where the runs' windows are not the same.
    """
    found = pd.DataFrame({"feature": [], "scorer": [], "metric": [], "p": []})
    if not have_same_windows(a, b):
        return found.astype({"feature": np.int64, "scorer": str, "metric": str, "p": np.float64})
    first, second = _judged(a), _judged(b)
    tables = [
        pd.DataFrame({"feature": features, "scorer": scorer, "metric": metric, "p": p})
        for scorer in sorted(first.keys() & second.keys())
        for metric, features, p in _tests(scorer, first[scorer], second[scorer])
    ]
    found = pd.concat([found, *tables]).astype({"feature": np.int64, "p": np.float64})
    return found[found["p"].notna()].reset_index(drop=True)


def _judged(run: Run) -> dict[str, pd.DataFrame]:
    """Scorer → what was said of each window by the features' own labels."""
    parts: dict[str, list[pd.DataFrame]] = defaultdict(list)
    file = open_table(run.predictions)
    columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
    own = pc.field("parsed") & (pc.field("label_of") == pc.field("feature"))
    for batch in file.iter_batches(_BATCH, columns=columns):
        table = current(pa.table(batch), run.predictions).filter(own)
        for scorer in pc.unique(table["scorer"]).to_pylist():
            if scorer in SCORERS:  # not of a package that is not installed here
                rows = table.filter(pc.field("scorer") == scorer)
                parts[scorer].append(_compact(rows, SCORERS[scorer].per_token))
    return {
        scorer: pd.concat(frames, ignore_index=True).drop_duplicates(_WINDOW)
        for scorer, frames in parts.items()
    }


def _compact(rows: pa.Table, per_token: bool) -> pd.DataFrame:
    window = rows["window"].combine_chunks()
    marks = rows["marks"]
    frame = pd.DataFrame(
        {
            "feature": rows["feature"].to_numpy(),
            "kind": pc.struct_field(window, "kind").to_pandas(),
            "rank": pc.struct_field(window, "rank").to_numpy(zero_copy_only=False),
            "stratum": (stratum := rows["stratum"].to_pandas()),
            "fires": stratum.where(stratum.isin([FIRES, "within", "elsewhere"]), "no"),
            "marks": "" if marks.null_count == len(marks) else list(map(str, marks.to_pylist())),
        }
    )
    if per_token:
        truth, prediction = rows["token_truth"], rows["token_prediction"]
        lengths = pc.list_value_length(truth).to_numpy(zero_copy_only=False)
        begins = np.cumsum(lengths) - lengths
        moments = token_moments(_values(truth), _values(prediction), begins.astype(np.int64))
        return pd.concat([frame, pd.DataFrame(moments, columns=_MOMENTS)], axis=1)
    for name in ("truth", "prediction", "probability"):
        frame[name] = rows[name].to_numpy()
    return frame


def _values(lists: pa.ChunkedArray) -> np.ndarray:
    flat: pa.ChunkedArray = pc.list_flatten(lists)
    return np.asarray(flat.to_numpy(), dtype=np.float64)


def _tests(
    scorer: str, first: pd.DataFrame, second: pd.DataFrame
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Metric, features and a p value of each."""
    first, second = (of[~of["stratum"].isin(_APART)] for of in (first, second))
    rows = first.merge(second.drop(columns="stratum"), on=_WINDOW, suffixes=("_a", "_b"))
    features, of = np.unique(rows["feature"].to_numpy(), return_inverse=True)
    n = len(features)
    if SCORERS[scorer].per_token:
        a, b = (rows[[f"{m}{run}" for m in _MOMENTS]].to_numpy() for run in ("_a", "_b"))
        yield "correlation", features, correlations_apart(of, a, b, n)
        return
    rows = rows.assign(truth=rows["truth_a"])
    if SCORERS[scorer].counts is not None:
        right_a, right_b = (
            ((rows[f"prediction{run}"] > 0) == (rows["truth"] > 0)).to_numpy()
            for run in ("_a", "_b")
        )
        for metric, windows in _ANSWERED.items():
            chosen = windows(rows).to_numpy()
            p = mcnemar(of[chosen], right_a[chosen], right_b[chosen], n)
            yield metric, features, p
    graded = "probability" if SCORERS[scorer].counts is not None else "prediction"
    known = (rows[f"{graded}_a"].notna() & rows[f"{graded}_b"].notna()).to_numpy()
    a, b = (rows[f"{graded}{run}"].to_numpy(np.float64)[known] for run in ("_a", "_b"))
    yield "auroc", features, aurocs_apart(of[known], (rows["truth"] > 0)[known].to_numpy(), a, b, n)
