"""An overview's figures with matplotlib, for papers: one column wide, no titles.

Colors are those of Okabe and Ito, which color-blind people can tell apart; what is compared also
differs in its lines, so that it survives a gray printer.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from autointerp.plain_text import one_line
from autointerp.report.distributions import Curve, Distribution, Histogram, Scatter, StratumRow
from autointerp.report.overview import Cost, Count, Failure, Overview, StageTime

_WIDTH = 3.3  # inches: a column of most journals
_HEIGHT = 2.1
_OWN, _NULL, _PLAIN = "#0072B2", "#D55E00", "#56B4E9"
_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "hatch.linewidth": 0.4,
    # A dollar sign in a label is a dollar sign.
    "text.parse_math": False,
    # Text stays text, and the same numbers make the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "autointerp",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}
_STEPS = [1, 2, 5, 10]  # between ticks
_MAX_REASONS = 8
_REASON = 32  # characters on each of two lines
_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.3g} %")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@contextmanager
def style() -> Iterator[None]:
    """Figures must be made and saved in it."""
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE}):
        yield


def figures(found: Overview) -> Iterator[tuple[str, Figure | str]]:
    """Name and figure, or why there is none for want of data."""
    if not found.scores:
        yield "scores", "nothing is scored yet"
    for d in found.scores:
        yield f"score-{d.scorer}-{d.metric}", score_figure(d)
    for scatter in found.scatter:
        yield f"density-{scatter.scorer}-{scatter.metric}", scatter_figure(scatter)
    if found.scores and not found.strata:
        yield "deciles", "no scorer judges windows by activation"
    for curve in found.strata:
        yield f"deciles-{curve.scorer}", curve_figure(curve)
    if found.density is None or not found.density.counts:
        yield "density", "no feature fires" if found.density else "no density is known"
    else:
        yield "density", density_figure(found.density)
    yield "status", counts_figure(found.counts) if found.counts else "nothing is labeled yet"
    yield "failures", failures_figure(found.failures) if found.failures else "nothing failed"
    asked = found.cost is not None and found.cost.prompt_tokens > 0
    yield "cost", cost_figure(found.cost) if asked and found.cost else "no model was called"
    yield "time", time_figure(found.time) if found.time else "no stage is finished"


def _axes(height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def score_figure(d: Distribution) -> Figure:
    """Shares of features by their score, beside the null; lines at the medians."""
    figure, axes = _axes()
    _shares(axes, d.edges, d.counts, d.n, d.median, "own label", _OWN, filled=True)
    if d.null_n and d.null_median is not None:
        name = "another feature's label"
        _shares(axes, d.edges, d.null_counts, d.null_n, d.null_median, name, _NULL, filled=False)
    elif d.null_median is not None:
        axes.axvline(
            d.null_median, color=_NULL, linestyle="--", label=f"chance: {d.null_median:.2f}"
        )
    axes.set_xlabel(_with_ends(d))
    axes.set_ylabel("share of features")
    axes.yaxis.set_major_formatter(_PERCENT)
    there = [i for i, both in enumerate(zip(d.counts, d.null_counts, strict=True)) if any(both)]
    axes.set_xlim(d.edges[there[0]], d.edges[there[-1] + 1])
    figure.legend(loc="outside upper left", ncols=1)
    return figure


def _shares(
    axes: Axes,
    edges: Sequence[float],
    counts: Sequence[int],
    n: int,
    median: float,
    name: str,
    color: str,
    *,
    filled: bool,
) -> None:
    label = f"{name}: median {_number(median)}, n = {n:,}"
    looks: dict[str, Any] = {"color": color, "alpha": 0.55} if filled else {}
    if not filled:
        looks = {"facecolor": "none", "edgecolor": color, "linewidth": 0.9, "hatch": "/////"}
    axes.stairs([count / n for count in counts], edges, fill=True, label=label, **looks)
    axes.axvline(median, color=color, linestyle="-" if filled else "--", linewidth=0.9)


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _with_ends(d: Distribution) -> str:
    """The metric's name, and what the first and the last bar take in beyond the axis."""
    ends = []
    if d.lowest < d.edges[0]:
        ends.append(f"first bar: down to {_number(d.lowest)}")
    if d.highest > d.edges[-1]:
        ends.append(f"last bar: up to {_number(d.highest)}")
    return one_line(d.title) + (f"\n({', '.join(ends)})" if ends else "")


def scatter_figure(scatter: Scatter) -> Figure:
    """A point a feature; points are drawn as pixels, in vector files too."""
    figure, axes = _axes()
    axes.scatter(
        scatter.density,
        scatter.value,
        s=3,
        color=_OWN,
        alpha=min(0.7, max(0.2, 600 / len(scatter.value))),  # few points are seen, many add up
        linewidths=0,
        rasterized=True,
    )
    _log_density(axes)
    axes.set_ylabel(one_line(scatter.title))
    if len(scatter.value) < scatter.of:
        sample = f"{len(scatter.value):,} of {scatter.of:,} features"
        axes.set_title(sample, loc="right", fontsize=7)
    return figure


def _log_density(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axes.set_xlabel("density (share of tokens)")


def _power(value: float) -> str:
    power = round(math.log10(value))
    return "1" if power == 0 else "10" + str(power).translate(_SUPERSCRIPTS)


def curve_figure(curve: Curve) -> Figure:
    """By decile of activation with 95 % intervals, then by kind of other window."""
    deciles, others = curve.deciles(), curve.others()
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    if others:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2.4, 1])
        right.spines.left.set_visible(False)
        right.tick_params(left=False)
        names = [one_line(row.name.replace("_", " ")) for row in others]
        _points(right, range(len(others)), others, joined=False)
        right.set_xticks(range(len(others)), names, rotation=35, ha="right")
        right.set_xlim(-0.6, len(others) - 0.4)
        right.set_xlabel("should not match", loc="right")
    else:
        left = figure.add_subplot()
    _points(left, [_middle(row) for row in deciles], deciles, joined=True)
    left.set_xlim(0, 100)
    left.set_xticks(range(0, 101, 20))
    left.set_xlabel("activation (percentile of firings)")
    correlation = curve.figure == "correlation"
    left.set_ylabel("correlation" if correlation else "judged to match")
    if not correlation:
        left.set_ylim(0, 1)
        left.yaxis.set_major_formatter(_PERCENT)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _middle(row: StratumRow) -> float:
    return float(row.name.split("–")[0]) + 5


def _points(
    axes: Axes, places: Sequence[float], rows: Sequence[StratumRow], *, joined: bool
) -> None:
    """Own labels' points with their intervals, and other labels' points, [rows] each."""
    own = [math.nan if row.own is None else row.own for row in rows]
    below = [0.0 if row.own is None or row.low is None else row.own - row.low for row in rows]
    above = [0.0 if row.own is None or row.high is None else row.high - row.own for row in rows]
    # What is not joined would lie on one another.
    apart = 0.0 if joined else 0.15
    axes.errorbar(
        [place - apart for place in places],
        own,
        yerr=[below, above],
        color=_OWN,
        linestyle="-" if joined else "none",
        marker="o",
        markersize=2.5,
        capsize=2,
        elinewidth=0.8,
        label="own label",
    )
    if any(row.another is not None for row in rows):
        axes.errorbar(
            [place + apart for place in places],
            [math.nan if row.another is None else row.another for row in rows],
            color=_NULL,
            linestyle="--" if joined else "none",
            marker="s",
            markersize=2.5,
            markerfacecolor="white",
            label="another feature's label",
        )


def density_figure(density: Histogram) -> Figure:
    figure, axes = _axes()
    axes.stairs(density.counts, density.edges, fill=True, color=_PLAIN)
    _log_density(axes)
    axes.set_xlim(density.edges[0], density.edges[-1])
    axes.set_ylabel("features")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_STEPS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    if density.zero:
        axes.set_title(f"{density.zero:,} never fire", loc="right", fontsize=7)
    return figure


def counts_figure(counts: Sequence[Count]) -> Figure:
    """Features by status."""
    names = [one_line(count.name) for count in counts]
    return _bars(names, [c.n for c in counts], [f"{c.n:,}" for c in counts], "features")


def failures_figure(failures: Sequence[Failure]) -> Figure:
    """Features by what became of them and why, the most frequent reasons."""
    shown = failures[:_MAX_REASONS]
    names = [_two_lines(f"{f.status}: {f.reason}" if f.status else f.reason) for f in shown]
    return _bars(names, [f.n for f in shown], [f"{f.n:,}" for f in shown], "features")


def _two_lines(text: str) -> str:
    lines = textwrap.wrap(one_line(text), _REASON, max_lines=2, placeholder=" …")
    return "\n".join(lines)


def cost_figure(cost: Cost) -> Figure:
    """Tokens that labels and scores took, and the price."""
    tokens = {"prompt": cost.prompt_tokens, "completion": cost.completion_tokens}
    price = "price unknown"
    if cost.cost_usd is not None:
        price = f"${cost.cost_usd:,.4g} in all"
        if cost.per_feature_usd is not None:
            price += f", ${cost.per_feature_usd:.2g} a feature"
    values = list(tokens.values())
    return _bars(list(tokens), values, [f"{n:,}" for n in values], f"tokens ({price})")


def time_figure(times: Sequence[StageTime]) -> Figure:
    """Seconds by stage."""
    notes = []
    for one in times:
        rate = one.features_per_second
        speed = "" if rate is None else f", {rate:,.3g} features/s"
        notes.append(f"{one.seconds:,.1f} s{speed}")
    return _bars([one.stage for one in times], [one.seconds for one in times], notes, "seconds")


def _bars(
    names: Sequence[str], values: Sequence[float], notes: Sequence[str], quantity: str
) -> Figure:
    """Horizontal bars, the first on top, each with its note."""
    lines = sum(name.count("\n") + 1 for name in names)
    figure, axes = _axes(0.55 + 0.17 * max(len(names) + 1, lines))
    bars = axes.barh(range(len(names)), values, color=_PLAIN, height=0.65)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.bar_label(bars, notes, padding=2, fontsize=7)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.5g}"))
    axes.set_xlabel(quantity)
    return figure
