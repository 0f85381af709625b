"""A run's scores in the terminal: each beside its null, and by strength of activation."""

import math
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.runs import Run
from autointerp.scoring import SCORERS
from autointerp.tables.read import load_labels, load_scores
from autointerp.tables.strata import load_strata

_BAR = 24  # characters of a share of 1
_ALPHA = 0.05


def print_scores(run: Run, console: Console) -> None:
    """Print the distribution of every score, then the curves. Raises UserError."""
    scores, labels = load_scores(run.path), load_labels(run.path)
    for scorer in scores["scorer"].unique():
        console.print(_distributions(str(scorer), scores[scores["scorer"] == scorer]))
    flagged = labels["flags"].dropna()
    for flag, n in flagged[flagged.map(len) > 0].explode().value_counts().items():
        scorer = str(flag).removesuffix("_parse_rate")
        console.print(f"{n:,} features: under 90 % of {scorer}'s judgments could be read")
    curves = load_strata(run.path)
    for scorer in curves["scorer"].unique() if len(curves) else []:
        console.print(_curve(scorer, curves[curves["scorer"] == scorer]))


def _distributions(scorer: str, scores: pd.DataFrame) -> Table:
    table = _table(f"{scorer}: its scores over all features")
    table.add_column("metric")
    # Labels of other features say what a number means.
    for name in ("median", "middle half", "null", f"p < {_ALPHA}", "features"):
        table.add_column(name, justify="right", no_wrap=True)
    for metric, rows in scores.groupby("metric", observed=True):
        value = rows["value"].dropna()
        null, p = rows["null_value"].dropna(), rows["p_value"].dropna()
        table.add_row(
            str(metric).replace("_", " "),
            _number(value.median()),
            f"{_number(value.quantile(0.25))} to {_number(value.quantile(0.75))}",
            _number(null.median()),
            f"{(p < _ALPHA).mean():.0%}" if len(p) else "–",
            f"{len(value):,}",
        )
    return table


def _table(title: str) -> Table:
    # Titles and six columns fit into eighty characters.
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _curve(scorer: str, rows: pd.DataFrame) -> Table:
    """By decile of activation, the strongest first, and by kind of silent window."""
    figure = "correlation" if SCORERS[scorer].per_token else "said_yes"
    table = _table(f"{scorer}: {figure.replace('_', ' ')}, by strength of activation")
    table.add_column("windows")
    for name in ("own label", ""):
        table.add_column(name, justify="right" if name else "left")
    table.add_column("another's", justify="right")
    own, another = (rows[rows["label"] == kind].set_index("stratum") for kind in ("own", "another"))
    deciles = [name for name in own.index if name.endswith("%")]
    for stratum in [*reversed(deciles), *(n for n in own.index if n not in deciles)]:
        value = float(own.loc[stratum, figure])
        against = float(another.loc[stratum, figure]) if stratum in another.index else math.nan
        bar = "█" * round(_BAR * max(0.0, value)) if not math.isnan(value) else ""
        table.add_row(stratum.replace("_", " "), _number(value), Text(bar), _number(against))
    return table


def _number(value: float | np.floating[Any]) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
