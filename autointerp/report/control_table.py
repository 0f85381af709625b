"""A run beside its control, for a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.errors import InputError
from autointerp.evidence.window_text import one_line
from autointerp.metrics.clustered import MIN_FEATURES
from autointerp.metrics.unpaired import Unpaired
from autointerp.runs.directory import Run
from autointerp.tables.compare import judging_warnings
from autointerp.tables.control import against_control
from autointerp.tables.read import load_labels

_COLUMNS = ("n", "A", "B", "A − B", "above", "AUROC")


def print_control(real: Run, control: Run, metric: str | None, console: Console) -> None:
    """Print how the scores of a run lie against its control's. Raises AutointerpError."""
    compared = against_control(real, control)
    if not compared:
        raise InputError(f"{real.path} and {control.path} have no metric in common")
    chosen = {name: found for name, found in compared.items() if metric in (None, *name)}
    if not chosen:
        known = ", ".join(sorted({part for name in compared for part in name}))
        raise InputError(f"--metric {metric}: the metrics of both runs are {known}")
    console.print(Text(f"A: {real.path}\nB: {control.path}"), soft_wrap=True)
    said = (
        "B is a control, random directions in place of the features of A, so "
        "features are not paired"
    )
    console.print(Text(said), soft_wrap=True)
    for line in judging_warnings(real, control):
        console.print(Text(f"warning: {line}"), style="yellow", soft_wrap=True)
    console.print(_table(chosen))
    for line in (
        "Medians of both; A − B: difference of the means, 95 % interval from a "
        "bootstrap over the features of each. Above: share of A over B's 95 % "
        "quantile. AUROC: the probability that a feature of A scores higher than one "
        "of B, 95 % interval.",
        f"An interval needs {MIN_FEATURES} features of each.",
    ):
        console.print(Text(line), style="dim", soft_wrap=True)
    for letter, run in (("A", real), ("B", control)):
        counts = load_labels(run.path)["status"].value_counts()
        said = ", ".join(f"{n:,} {status}" for status, n in counts.items() if n)
        console.print(Text(f"{letter}: {said}"), soft_wrap=True)


def metric_name(scorer: str, metric: str) -> str:
    # Scorers that follow another tool have metrics that begin with their own name.
    return one_line(f"{scorer} {metric.removeprefix(f'{scorer}_')}".replace("_", " "))


def _table(compared: dict[tuple[str, str], Unpaired]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("score", overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for (scorer, of), found in compared.items():
        difference = found.difference
        table.add_row(
            Text(metric_name(scorer, of)),
            "{:,}/{:,}".format(*found.n),
            *(f"{median:.3f}" for median in found.medians),
            f"{difference.value:+.3f}{_interval(difference.ci_low, difference.ci_high, '+')}",
            f"{found.above:.1%} > {found.bound:.3f}",
            f"{found.auroc:.3f}{_interval(*found.auroc_ci)}",
        )
    return table


def _interval(low: float, high: float, sign: str = "") -> str:
    return "" if low != low else f" ({low:{sign}.3f} to {high:{sign}.3f})"


def other_labels_line(found: Unpaired) -> str:
    """How labels score against other features' labels, in a few words."""
    return (
        f"{found.above:.1%} of {found.n[0]:,} above {found.bound:.3f}, the 95 % quantile of "
        f"{found.n[1]:,} other labels; AUROC {found.auroc:.3f}{_interval(*found.auroc_ci)}"
    )
