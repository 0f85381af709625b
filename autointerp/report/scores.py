"""A run's scores in the terminal: each beside its null, and by activation."""

from collections.abc import Iterable
from itertools import groupby

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.report.distributions import ALPHA, Curve, Distribution, curves, distributions
from autointerp.report.overview import flag_counts
from autointerp.runs.directory import Run
from autointerp.tables.protocol_figures import load_protocol_figures
from autointerp.tables.read import load_labels, load_scores
from autointerp.tables.strata_table import load_strata
from autointerp.tables.window_length import of_windows

_BAR = 24  # characters of a share of 1


def print_scores(run: Run, console: Console) -> None:
    """Print the distribution of every score, then the curves. Raises AutointerpError."""
    found = sorted(distributions(load_scores(run.path)), key=lambda d: d.scorer)
    flags = flag_counts(load_labels(run.path))
    for scorer, of_scorer in groupby(found, key=lambda d: d.scorer):
        console.print(_distributions(scorer, of_scorer))
    if any("population" in d.metric for d in found):
        console.print(f"population scores: of all {of_windows(run)} in the corpus")
    for flag in flags:
        scorer = flag.name.removesuffix("_parse_rate")
        console.print(f"{flag.n:,} features: under 90 % of {scorer}'s judgments could be read")
    for curve in curves(load_strata(run.path)):
        console.print(_curve(curve))
    figures = load_protocol_figures(run.path)
    if len(figures):
        console.print(_published(figures))


def _distributions(scorer: str, found: Iterable[Distribution]) -> Table:
    table = _table(f"{scorer}: its scores over all features")
    table.add_column("metric")
    # Labels of other features say what a number means.
    for name in ("median", "middle half", "null", f"p < {ALPHA}", f"q ≤ {ALPHA}", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for d in found:
        low, high = d.quartiles
        table.add_row(
            d.metric.replace("_", " "),
            _number(d.median),
            f"{_number(low)} to {_number(high)}",
            _number(d.null_median),
            "–" if d.p_below is None else f"{d.p_below:.0%}",
            f"{d.beat_null / d.tested:.0%}" if d.tested else "–",
            f"{d.n:,}",
        )
    return table


def _published(figures: pd.DataFrame) -> Table:
    """What stands in other tools' tables, for each protocol that the run follows."""
    table = _table("as other tools report it (docs/protocols.md)")
    for name in ("scorer", "figure"):
        table.add_column(name)
    for name in ("value", "sd", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in figures.to_dict("records"):
        value, sd = (_number(None if pd.isna(row[n]) else row[n]) for n in ("value", "sd"))
        figure = f"{row['figure']} {row['metric']}".replace("_", " ")
        table.add_row(row["scorer"], figure, value, sd, f"{row['n']:,}")
    return table


def _table(title: str) -> Table:
    # Titles and seven columns fit into eighty characters.
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _curve(curve: Curve) -> Table:
    """By decile of activation, the strongest first, and by kind of other window."""
    figure = curve.figure.replace("_", " ")
    table = _table(f"{curve.scorer}: {figure}, by activation")
    table.add_column("windows")
    for name in ("own label", ""):
        table.add_column(name, justify="right" if name else "left")
    table.add_column("another's", justify="right")
    for row in (*reversed(curve.deciles()), *curve.others()):
        bar = "█" * round(_BAR * max(0.0, row.own)) if row.own is not None else ""
        name = row.name.replace("_", " ")
        table.add_row(name, _number(row.own), Text(bar), _number(row.another))
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
