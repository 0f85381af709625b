"""Two runs beside each other, for a terminal."""

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.errors import InputError
from autointerp.evidence.window_text import one_line
from autointerp.metrics.paired import MIN_FEATURES
from autointerp.report.control_table import print_control
from autointerp.report.sources import print_facts
from autointerp.report.terminal import collision_line
from autointerp.runs.directory import Run
from autointerp.tables.compare import (
    LabelComparison,
    MetricComparison,
    Spent,
    compare_labels,
    metric_comparisons,
    paired_scores,
    settings_apart,
    warnings_about,
)
from autointerp.tables.control import control_pair


def print_comparison(a: Run, b: Run, metric: str | None, top: int, console: Console) -> None:
    """Print how run `b` differs from run `a`. Raises AutointerpError where they cannot be compared.

    Where one is the other's control, they are A and B whichever is named first, and features are
    not paired.
    """
    if (pair := control_pair(a, b)) is not None:
        print_control(*pair, metric, console)
        _print_settings(*pair, console)
        return
    warnings = warnings_about(a, b)
    pairs = paired_scores(a, b)
    if metric is not None:
        pairs = _only(pairs, metric)
    console.print(Text(f"A: {a.path}\nB: {b.path}"), soft_wrap=True)
    for line in warnings:
        console.print(Text(f"warning: {line}"), style="yellow", soft_wrap=True)
    metrics = metric_comparisons(a, b, pairs)
    console.print(_metric_table(metrics))
    for line in _remarks(metrics):
        console.print(Text(line), style="dim", soft_wrap=True)
    if top:
        for table in _extremes(pairs, metrics[0], top):
            console.print(table)
    labels = compare_labels(a, b)
    console.print()
    print_facts(console, _facts(labels))
    _print_settings(a, b, console)


def _print_settings(a: Run, b: Run, console: Console) -> None:
    apart = settings_apart(a, b)
    if apart:
        console.print(_settings_table(apart))
    else:
        console.print("settings and prompts are the same")


def _only(pairs: pd.DataFrame, metric: str) -> pd.DataFrame:
    chosen = pairs[(pairs["metric"] == metric) | (pairs["scorer"] == metric)]
    if chosen.empty:
        known = sorted({*pairs["metric"], *pairs["scorer"]})
        raise InputError(f"--metric {metric}: the metrics of both runs are {', '.join(known)}")
    return chosen


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _metric_table(metrics: list[MetricComparison]) -> Table:
    table = _table(
        "B − A, over the features that both have scored",
        ("score",),
        ("n", "A", "B", "B − A", "95 % interval", "won/tie/lost", "p"),
    )
    for found in metrics:
        difference = found.difference
        small = difference.n < MIN_FEATURES
        interval = f"{difference.ci_low:+.3f} to {difference.ci_high:+.3f}"
        table.add_row(
            Text(_name(found)),
            f"{difference.n:,}",
            *(f"{mean:.3f}" for mean in found.means),
            f"{difference.value:+.3f}",
            "too few" if small else interval,
            f"{found.wins:,}/{found.ties:,}/{found.losses:,}",
            "–" if found.p is None else f"{found.p:.2g}",
        )
    return table


def _name(found: MetricComparison) -> str:
    return one_line(f"{found.scorer} {found.metric}".replace("_", " "))


def _remarks(metrics: list[MetricComparison]) -> list[str]:
    remarks = [
        "Intervals: paired bootstrap over features. B wins where its interval is "
        "wholly above A's, and loses where it is wholly below. p: sign test of "
        "higher against lower."
    ]
    if any(found.difference.n < MIN_FEATURES for found in metrics):
        remarks.append(f"Too few: an interval needs {MIN_FEATURES} features that both have scored.")
    for found in metrics:
        if found.only_first or found.only_second:
            remarks.append(
                f"{_name(found)}: {found.only_first:,} features are scored only in A, "
                f"{found.only_second:,} only in B."
            )
    return remarks


def _extremes(pairs: pd.DataFrame, found: MetricComparison, top: int) -> list[Table]:
    """The features with the largest gains, and with the largest losses."""
    rows = pairs[(pairs["scorer"] == found.scorer) & (pairs["metric"] == found.metric)]
    gains = rows[rows["difference"] > 0].nlargest(top, "difference")
    losses = rows[rows["difference"] < 0].nsmallest(top, "difference")
    tables = []
    for what, chosen in (("gains", gains), ("losses", losses)):
        if chosen.empty:
            continue
        title = f"largest {what} of B, {_name(found)}"
        table = _table(title, (), ("feature", "A", "B"))
        for name in ("label in A", "label in B"):
            table.add_column(name, min_width=20, overflow="fold")
        for row in chosen.to_dict("records"):
            table.add_row(
                str(row["feature"]),
                f"{row['value_a']:.3f}",
                f"{row['value_b']:.3f}",
                Text(_label(row["label_a"])),
                Text(_label(row["label_b"])),
            )
        tables.append(table)
    return tables


def _label(value: object) -> str:
    return one_line(value) if isinstance(value, str) else "–"


def _facts(labels: LabelComparison) -> dict[str, str | None]:
    facts: dict[str, str | None] = {}
    both = labels.changed + labels.alike
    if both:
        facts["labels"] = (
            f"{labels.changed:,} of {both:,} changed; {labels.alike / both:.1%} are "
            "the same, ignoring case"
        )
    moved = ", ".join(f"{n:,} {x} → {y}" for (x, y), n in labels.statuses.items())
    facts["statuses, A → B"] = moved or "all the same"
    for name, found in zip("AB", labels.collisions, strict=True):
        facts[f"collisions in {name}"] = "no labels" if found is None else collision_line(found)
    for name, spent in zip("AB", labels.spent, strict=True):
        facts[f"spent in {name}"] = _spending(spent)
    return facts


def _spending(spent: Spent) -> str:
    if not spent.prompt_tokens:
        return "no tokens: no model was called"
    tokens = f"{spent.prompt_tokens:,} prompt and {spent.completion_tokens:,} completion tokens"
    if spent.cost_usd is None:
        cost = "price unknown"
    else:
        cost = f"${spent.cost_usd:,.4f}"
        if spent.labeled:
            cost += f", ${spent.cost_usd / spent.labeled:,.6f} per labeled feature"
    return f"{tokens}, {cost}"


def _settings_table(apart: dict[str, tuple[object, object]]) -> Table:
    table = _table("settings that differ", ("setting", "A", "B"), ())
    for name, values in apart.items():
        table.add_row(Text(name), *(Text(_shown(value)) for value in values))
    return table


def _shown(value: object) -> str:
    return "–" if value is None else one_line(str(value))
