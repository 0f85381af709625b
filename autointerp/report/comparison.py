"""Two runs beside each other, for a terminal."""

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.errors import InputError
from autointerp.evidence.window_text import one_line
from autointerp.metrics.clustered import MIN_CLUSTERS, MIN_FEATURES, ClusteredMean
from autointerp.plain_text import counted
from autointerp.report.control_table import metric_name, print_control
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
from autointerp.tables.second_run import check_repeat
from autointerp.tables.window_length import of_windows


def print_comparison(
    a: Run, b: Run, metric: str | None, top: int, console: Console, repeat: Run | None = None
) -> None:
    """Print how run `b` differs from run `a`. Raises AutointerpError where they cannot be compared.

    Where one is the other's control, they are A and B whichever is named first, and features are
    not paired. `repeat` is a second run of A's settings, which says how much of it is noise.
    """
    apart = None if repeat is None else check_repeat(a, repeat)
    if (pair := control_pair(a, b)) is not None:
        if repeat is not None:
            raise InputError("--repeat is for two runs of one SAE, not for a run and its control")
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
    for line in _remarks(metrics, of_windows(a) if of_windows(a) == of_windows(b) else "windows"):
        console.print(Text(line), style="dim", soft_wrap=True)
    if repeat is not None and apart is not None:
        _print_noise(metrics, _comparisons(a, repeat, metric), repeat, apart, console)
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


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...], gap: int = 1) -> Table:
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _metric_table(metrics: list[MetricComparison]) -> Table:
    table = _table(
        "B − A, over the features that both have scored",
        ("score",),
        ("n", "A", "B", "B − A", "95 % interval", "p", "p adj.", "won/tie/lost"),
        gap=0,  # nine columns in eighty characters
    )
    for found in metrics:
        difference = found.difference
        table.add_row(
            Text(_name(found)),
            f"{difference.n:,}",
            *(f"{mean:.3f}" for mean in found.means),
            f"{difference.value:+.3f}",
            _interval(difference),
            _p(difference.p),
            _p(found.p_adjusted),
            f"{found.wins:,}/{found.ties:,}/{found.losses:,}",
        )
    return table


def _interval(mean: ClusteredMean) -> str:
    if mean.ci_low != mean.ci_low:
        return "too few"
    return f"{mean.ci_low:+.3f}, {mean.ci_high:+.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "<.001" if value < 0.001 else f"{value:.3f}"


def _name(found: MetricComparison) -> str:
    return metric_name(found.scorer, found.metric)


def _remarks(metrics: list[MetricComparison], windows: str) -> list[str]:
    clusters = [found.difference.clusters for found in metrics]
    few, many = f"{min(clusters):,.0f}", f"{max(clusters):,.0f}"
    remarks = [
        "Interval and p: Student's, of the mean over features; those whose labels came in one "
        f"reply, or are the same, go together, which makes "
        f"{few if few == many else f'{few} to {many}'} clusters. p adj.: Holm's, for "
        f"{len(metrics)} metrics at once."
    ]
    remarks += _outcome_remarks(metrics)
    if any("population" in found.metric for found in metrics):
        remarks.append(f"Population scores are of {windows}, not of tokens.")
    if any(found.difference.ci_low != found.difference.ci_low for found in metrics):
        remarks.append(
            f"Too few: an interval needs {MIN_FEATURES} features that both have scored, in "
            f"{MIN_CLUSTERS} clusters."
        )
    counts: dict[tuple[int, int], list[str]] = {}
    for found in metrics:
        counts.setdefault((found.only_first, found.only_second), []).append(_name(found))
    for (first, second), names in counts.items():
        if first or second:
            only = f"{counted(first, 'feature')} with a value only in A, {second:,} only in B"
            remarks.append(f"{', '.join(names)}: {only}.")
    return remarks


def _outcome_remarks(metrics: list[MetricComparison]) -> list[str]:
    """By what B wins or loses on a feature."""
    paired = [_name(found) for found in metrics if found.paired]
    others = [_name(found) for found in metrics if found.paired < found.difference.n]
    remarks = []
    if paired:
        remarks.append(
            f"Won and lost by a paired test on the same windows, at a false discovery rate of 5 % "
            f"over features: {', '.join(paired)}."
        )
    if others:
        which = ", ".join(others) if paired else "all"
        remarks.append(
            "Won and lost where the intervals of A and B lie apart, which takes a larger "
            f"difference: {which}."
        )
    return remarks


def _comparisons(a: Run, b: Run, metric: str | None) -> list[MetricComparison]:
    pairs = paired_scores(a, b)
    return metric_comparisons(a, b, pairs if metric is None else _only(pairs, metric))


def _print_noise(
    metrics: list[MetricComparison],
    noise: list[MetricComparison],
    repeat: Run,
    apart: str,
    console: Console,
) -> None:
    """What a second run of A's settings (A2) differs by, beside what B does."""
    table = _table(
        "A2 − A, the same settings once more, beside B − A",
        ("score",),
        ("n", "A2 − A", "95 % interval", "p", "B − A", "95 % interval", "clear of it"),
        gap=0,
    )
    of_b = {(found.scorer, found.metric): found.difference for found in metrics}
    for found in noise:
        again, other = found.difference, of_b.get((found.scorer, found.metric))
        if other is None:
            continue
        table.add_row(
            Text(_name(found)),
            f"{again.n:,}",
            f"{again.value:+.3f}",
            _interval(again),
            _p(again.p),
            f"{other.value:+.3f}",
            _interval(other),
            _clear(other, again),
        )
    console.print(Text(f"A2: {repeat.path} ({apart})"), soft_wrap=True)
    console.print(table)
    remark = (
        "Clear of it: the intervals of B − A and of A2 − A lie apart. Where they do not, another "
        "run of A might have differed as much."
    )
    if all(found.difference.value == 0 and found.difference.p is None for found in noise):
        remark = (
            "A2 has the very scores of A, as from replies or rules that were the same: it says "
            "nothing of the noise. Give it another seed, or a run directory of its own."
        )
    console.print(Text(remark), style="dim", soft_wrap=True)


def _clear(b: ClusteredMean, again: ClusteredMean) -> str:
    ends = (b.ci_low, b.ci_high, again.ci_low, again.ci_high)
    if any(end != end for end in ends):
        return "too few"
    return "yes" if b.ci_low > again.ci_high or b.ci_high < again.ci_low else "no"


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
