"""How a run's judges did by the strength of the activation and by the kind of silent window.

Read from `predictions.parquet` a batch after another: what is kept is a few numbers a feature.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.errors import UserError
from autointerp.files import open_parquet
from autointerp.runs import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import FIRES

_DECILES = [f"{10 * i}–{10 * i + 10} %" for i in range(10)]
_Z = 1.959963984540054
_BATCH = 1 << 16
_COLUMNS = [
    *("feature", "label_of", "scorer", "stratum", "quantile", "parsed"),
    *("prediction", "token_truth", "token_prediction"),
]


def load_strata(run: str | Path) -> pd.DataFrame:
    """What judges said by stratum, over all features of a run.

    One row a scorer, `label` ("own", or "another" for the null) and stratum: deciles of activation
    ("0–10 %" are the weakest tenth of a feature's firings), then kinds of silent windows. Of
    yes-or-no scorers `said_yes` is the share of windows that the judge says match, with a 95 %
    interval for which the windows of a feature go together (a ratio estimate over clusters: Cochran
    1977, section 6.3); of those that predict activations `correlation` is that over the tokens of
    the decile's windows and of all silent ones. `n` is the number of readable judgments.

    Raises UserError where the run has no scores yet.
    """
    path = Run(Path(run)).predictions
    if not path.is_file():
        raise UserError(f"{path} is missing: the run has not come so far")
    file = open_parquet(path)
    features = np.unique(file.read(columns=["feature"])["feature"].to_numpy())
    sums: dict[tuple[str, str, str], np.ndarray] = {}
    for batch in file.iter_batches(_BATCH, columns=_COLUMNS):
        for key, part in _parts(batch):
            if SCORERS[key[0]].per_token:
                found = _moments(part)
            else:
                place = np.searchsorted(features, part["feature"].to_numpy())
                yes = part["prediction"].to_numpy() > 0
                found = np.stack([np.bincount(place, w, len(features)) for w in (yes, None)])
            sums[key] = sums[key] + found if key in sums else found
    rows = []
    for scorer, label, stratum in sorted(sums, key=lambda key: (key[0], key[1] != "own", key[2])):
        row: dict[str, object] = {"scorer": scorer, "label": label, "stratum": stratum}
        found = sums[scorer, label, stratum]
        if not SCORERS[scorer].per_token:
            rows.append(row | _ratio(*found))
        elif stratum in _DECILES:
            same = [k for k in sums if k[:2] == (scorer, label) and k[2] not in _DECILES]
            together = found + sum(sums[k] for k in same)
            rows.append(row | {"correlation": _correlation(together), "n": int(together[6])})
    return pd.DataFrame(rows)


def _parts(batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, str, str], pa.Table]]:
    """The readable judgments of a batch by scorer, label and stratum."""
    table = pa.table(batch).filter(pc.field("parsed"))
    own = pc.equal(table["feature"], table["label_of"])
    quantile = table["quantile"].to_numpy(zero_copy_only=False)
    decile = np.minimum((10 * np.nan_to_num(quantile)).astype(int), 9)
    fires = pc.equal(table["stratum"], FIRES)
    stratum = pc.if_else(fires, pa.array(_DECILES).take(pa.array(decile)), table["stratum"])
    label = pc.if_else(own, "own", "another")
    table = table.append_column("label", label).set_column(
        table.schema.get_field_index("stratum"), "stratum", stratum
    )
    keys = ["scorer", "label", "stratum"]
    for key in table.group_by(keys).aggregate([]).to_pylist():
        chosen = pc.field("scorer") == key["scorer"]
        for name in keys[1:]:
            chosen &= pc.field(name) == key[name]
        yield (key["scorer"], key["label"], key["stratum"]), table.filter(chosen)


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


def _moments(part: pa.Table) -> np.ndarray:
    """Of tokens: how many, t, p, tt, pp, tp; and of how many windows."""
    t, p = (
        pc.list_flatten(part[name]).to_numpy().astype(np.float64)
        for name in ("token_truth", "token_prediction")
    )
    sums = [len(t), t.sum(), p.sum(), (t * t).sum(), (p * p).sum(), (t * p).sum()]
    return np.array([*sums, len(part)])


def _correlation(moments: np.ndarray) -> float:
    n, t, p, tt, pp, tp, _ = moments
    spread = (n * tt - t * t) * (n * pp - p * p)
    return float((n * tp - t * p) / np.sqrt(spread)) if spread > 0 else float("nan")
