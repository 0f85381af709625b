"""Labels and scores of several runs of one coder side by side, a row a feature."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autointerp.scoring import SCORERS
from autointerp.tables.collisions import folded
from autointerp.tables.compare import check_saes
from autointerp.tables.read import by_name, load_labels
from autointerp.tables.window_length import unlike_windows


def label_differences(runs: Sequence[str | Path]) -> pd.DataFrame:
    """What two or more runs of one coder say of each feature that any of them has.

    Columns: feature; `label_<run>` of each run, by the names of their folders; `same`, whether all
    labels are alike but for case and spaces (null where labels are missing and the others agree);
    `status_<run>`; of each scorer's main metric, and of the corpus's F1, `<metric>_<run>` and
    `<metric>_difference_<run>`, that run's value less the first's.

    Warns where the runs' population scores are not of the same windows. Raises AutointerpError
    where a run has no labels yet, or the coders are not the same.
    """
    named = by_name(runs)
    first, *others = named
    for name in others:
        check_saes(named[first], named[name])
    for line in unlike_windows(named):
        warnings.warn(line, stacklevel=2)
    tables = {name: load_labels(run.path).set_index("feature") for name, run in named.items()}
    index = pd.Index(sorted(set().union(*(table.index for table in tables.values()))))
    columns = {f"label_{name}": table["label"].reindex(index) for name, table in tables.items()}
    columns["same"] = _same([columns[f"label_{name}"] for name in named])
    columns |= {f"status_{name}": t["status"].reindex(index) for name, t in tables.items()}
    metrics = [f"{name}_{scorer.metric}" for name, scorer in SCORERS.items()]
    for metric in [*metrics, "population_f1"]:
        values = {
            name: table[metric].reindex(index).astype("float64")
            for name, table in tables.items()
            if metric in table
        }
        columns |= {f"{metric}_{name}": value for name, value in values.items()}
        if first in values:
            columns |= {
                f"{metric}_difference_{name}": values[name] - values[first]
                for name in others
                if name in values
            }
    return pd.DataFrame(columns).rename_axis("feature").reset_index()


def _same(labels: Sequence[pd.Series]) -> pd.Series:
    """True where all labels are alike, False where two are not, null where that is not known."""
    texts = [label.map(folded, na_action="ignore").astype(object) for label in labels]
    said = texts[0]
    for text in texts[1:]:
        said = said.where(said.notna(), text)
    apart = pd.Series(False, said.index)
    known = pd.Series(True, said.index)
    for text in texts:
        apart |= text.notna() & (text != said)
        known &= text.notna()
    return (~apart).astype("boolean").where(apart | known)
