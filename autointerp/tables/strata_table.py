"""How a run's judges did by the strength of the activation and by the kind of silent window.

Read from `predictions.parquet` a batch after another: what is kept is a few numbers a feature.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import FIRES, RANDOM, TOP
from autointerp.tables.migrate import current, open_table

_DECILES = [f"{10 * i}–{10 * i + 10} %" for i in range(10)]
_Z = 1.959963984540054
_WINDOWS = 6  # place of their number among the moments
_BATCH = 1 << 16
_COLUMNS = [
    *("feature", "label_of", "scorer", "quantile", "parsed"),
    *("prediction", "token_truth", "token_prediction"),
]


def load_strata(run: str | Path) -> pd.DataFrame:
    """What judges said by stratum, over all features of a run.

    One row a scorer, `label` ("own", or "another" for the null) and stratum: deciles of activation
    ("0–10 %" are the weakest tenth of a feature's firings), then kinds of silent windows. Of
    yes-or-no scorers `said_yes` is the share of windows that the judge says match, with a 95 %
    interval for which the windows of a feature go together (a ratio estimate over clusters: Cochran
    1977, section 6.3); of those that predict activations `correlation` is that over the tokens of
    the decile's windows and of all silent ones. `n` is the number of readable judgments. Scorers
    whose judgments are neither, such as the place of an intruder, have no rows, nor have windows
    that fire at a strength that was not noted, as in the first version.

    Raises AutointerpError where the run has no scores yet.
    """
    path = Run(Path(run)).predictions
    file = open_table(path)
    # In the first version a window's kind stood for its stratum.
    written = set(file.schema_arrow.names)
    stratum = "stratum" if "stratum" in written else "window"
    columns = [name for name in _COLUMNS if name in written] + [stratum]
    keys = current(file.read(columns=["feature", stratum]), path)
    features = np.unique(keys["feature"].to_numpy())
    strata = [*_DECILES, *sorted(set(pc.unique(keys["stratum"]).to_pylist()) - {FIRES})]
    cells = [(label, stratum) for label in ("own", "another") for stratum in strata]
    sums: dict[str, np.ndarray] = {}  # scorer → [cells, …]
    known = pc.field("quantile").is_valid() | (pc.field("stratum") != FIRES)
    for batch in file.iter_batches(_BATCH, columns=columns):
        table = current(pa.table(batch), path).filter(pc.field("parsed") & known)
        for scorer in pc.unique(table["scorer"]).to_pylist():
            if scorer not in SCORERS:
                continue  # of a package that is not installed here
            if not (per_token := SCORERS[scorer].per_token) and SCORERS[scorer].counts is None:
                continue  # neither activations nor a yes or no
            part = table.filter(pc.field("scorer") == scorer)
            cell = _cells(part, strata)
            if per_token:
                sums[scorer] = sums.get(scorer, 0) + _moments(part, cell, len(cells))
                continue
            if scorer not in sums:
                sums[scorer] = np.zeros((len(cells), 2, len(features)), np.int32)
            place = np.searchsorted(features, part["feature"].to_numpy())
            yes, n = sums[scorer].swapaxes(0, 1)
            np.add.at(yes, (cell, place), part["prediction"].to_numpy() > 0)
            np.add.at(n, (cell, place), 1)
    rows = []
    for scorer in sorted(sums):
        for (label, stratum), found in zip(cells, sums[scorer], strict=True):
            row: dict[str, object] = {"scorer": scorer, "label": label, "stratum": stratum}
            if not SCORERS[scorer].per_token:
                if found[1].any():
                    rows.append(row | _ratio(*found))
            elif stratum in _DECILES and found[_WINDOWS]:
                silent = [c[0] == label and c[1] not in (*_DECILES, TOP, RANDOM) for c in cells]
                together = found + sums[scorer][silent].sum(0)
                n = int(together[_WINDOWS])
                rows.append(row | {"correlation": _correlation(together), "n": n})
    return pd.DataFrame(rows)


def _cells(part: pa.Table, strata: Sequence[str]) -> np.ndarray:
    """The place of each row's label, own or another, and stratum: int64 [rows]."""
    quantile = part["quantile"].to_numpy()
    decile = np.minimum((10 * np.nan_to_num(quantile)).astype(int), 9)
    stratum = pc.index_in(part["stratum"], value_set=pa.array(strata))  # null where it fires
    place = np.where(stratum.is_null().to_numpy(), decile, stratum.fill_null(0).to_numpy())
    another = part["feature"].to_numpy() != part["label_of"].to_numpy()
    cells: np.ndarray = another * len(strata) + place
    return cells


def _ratio(yes: np.ndarray, n: np.ndarray) -> dict[str, object]:
    """The share of yes over all features, [features] each; its interval over features."""
    total, clusters = n.sum(), int((n > 0).sum())
    rate = yes.sum() / total
    half = float("nan")
    if clusters > 1:
        spread = ((yes - rate * n) ** 2).sum() * clusters / (clusters - 1)
        half = _Z * np.sqrt(spread) / total
    return {
        "said_yes": float(rate),
        "ci_low": max(0.0, float(rate - half)),
        "ci_high": min(1.0, float(rate + half)),
        "n": int(total),
    }


def _moments(part: pa.Table, cell: np.ndarray, cells: int) -> np.ndarray:
    """By cell, of the tokens that could be read: how many, t, p, tt, pp, tp; and of how many rows.

    [cells, 7].
    """
    t, p = (
        pc.list_flatten(part[name]).to_numpy().astype(np.float64)
        for name in ("token_truth", "token_prediction")
    )
    read = ~np.isnan(p)
    of_token = np.repeat(cell, pc.list_value_length(part["token_truth"]).to_numpy())[read]
    t, p = t[read], p[read]
    sums = [np.bincount(of_token, w, cells) for w in (None, t, p, t * t, p * p, t * p)]
    return np.stack([*sums, np.bincount(cell, minlength=cells)], axis=1)


def _correlation(moments: np.ndarray) -> float:
    n, t, p, tt, pp, tp, _ = moments
    spread = (n * tt - t * t) * (n * pp - p * p)
    return float((n * tp - t * p) / np.sqrt(spread)) if spread > 0 else float("nan")
