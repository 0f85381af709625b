"""The results of a model's trial: tables on a terminal, plain lines elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.config.settings import RunConfig
from autointerp.metrics.estimates import wilson
from autointerp.plain_text import line_for_person
from autointerp.report.sources import print_facts
from autointerp.trial import verdict
from autointerp.trial.concepts import concepts
from autointerp.trial.trial_record import JudgeWay, LabelWay, SimulationWay, TrialRecord


def print_trial(record: TrialRecord, config: RunConfig, path: Path, console: Console) -> bool:
    """Print the results; True if the model is not usable with any setting that was tried."""
    _facts(console, _said_of_all(record))
    _section(console, "labels", _LABEL_COLUMNS, [_label_row(way) for way in record.labels])
    _section(console, "judging", _JUDGE_COLUMNS, [_judge_row(way) for way in record.judging])
    simulated = [_simulation_row(way) for way in record.simulation]
    _section(console, "simulation", _SIMULATION_COLUMNS, simulated)
    chosen = verdict.settings(record)
    if console.is_terminal:
        console.print()
    _facts(
        console,
        {
            "not available": ", ".join(record.not_given) or "nothing that was tried",
            "settings to use": f"{verdict.as_flags(chosen)} (--auto applies them)",
            "kept in": str(path),
        },
    )
    best = config.model_copy(update=chosen)
    failings = verdict.failings(record, best)
    for failing in failings:
        said = f"warning: {record.model} is not usable here: {failing}"
        console.print(Text(line_for_person(said)), style="yellow", soft_wrap=True)
    judge = verdict.best_judge(record)
    if not failings and judge is not None and verdict.only_ranks(judge, record):
        said = "its answers are no better than chance, but its probabilities are: use the AUROC"
        console.print(Text(line_for_person(f"note: {said}")), style="yellow", soft_wrap=True)
    if not failings and verdict.failings(record, config):
        said = f"{record.model} is not usable with the current settings, but it is with those above"
        console.print(Text(line_for_person(said)), style="yellow", soft_wrap=True)
    return bool(failings)


def _facts(console: Console, facts: Mapping[str, str | None]) -> None:
    if console.is_terminal:
        print_facts(console, facts)
        return
    for name, value in facts.items():
        said = line_for_person(f"{name}: {'not known' if value is None else value}")
        console.print(Text(said), soft_wrap=True)


def _said_of_all(record: TrialRecord) -> dict[str, str | None]:
    recalled = f", {record.recalled:,} of them from the journal" if record.recalled else ""
    cost = "price unknown" if record.cost_usd is None else f"${record.cost_usd:,.4f}"
    speed = None
    if record.tokens_per_s is not None:
        speed = "{:,.0f} prompt and {:,.0f} completion tokens a second".format(*record.tokens_per_s)
    facts: dict[str, str | None] = {
        "trial": f"{record.requests:,} requests about {len(concepts())} planted features{recalled}",
        "tokens": f"{record.prompt_tokens:,} prompt, {record.completion_tokens:,} completion; "
        f"{cost}",
        "speed": speed,
    }
    if record.failures:
        facts["failed"] = f"{len(record.failures):,} requests, such as: {record.failures[0]}"
    return facts


_LABEL_COLUMNS = (
    *("features per request", "labels", "readable", "copied", "declined", "alike"),
    *("right at first", "in the end"),
)
_JUDGE_COLUMNS = (
    *("task", "form", "excerpts per request", "answered", "yes", "right", "95 %", "by rank"),
)
_SIMULATION_COLUMNS = ("mode", "excerpts", "read", "correlation")


def _label_row(way: LabelWay) -> list[str]:
    counts = (way.features, way.readable, way.copied, way.declined, way.alike)
    right = (way.right, verdict.named(way))
    return [
        *map(str, (way.size, *counts)),
        *(f"{n} ({_share(n, way.features)})" for n in right),
    ]


def _judge_row(way: JudgeWay) -> list[str]:
    """The interval here is of this way alone; the verdict's allows for having picked the best."""
    low, high = wilson(verdict.correct(way), way.asked)
    return [
        way.task,
        way.form,
        str(way.items),
        f"{way.answered} of {way.asked}",
        _share(way.yes, way.answered),
        _share(verdict.correct(way), way.asked),
        f"{100 * low:.0f}-{100 * high:.0f}",
        "" if way.ranked is None else _share(way.ranked, way.asked),
    ]


def _simulation_row(way: SimulationWay) -> list[str]:
    correlation = "none" if way.correlation is None else f"{way.correlation:.2f}"
    return [way.mode, str(way.windows), str(way.answered), correlation]


def _share(part: float, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _section(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    if not rows:
        return
    if not console.is_terminal:
        for row in rows:
            told = ", ".join(f"{n}: {v}" for n, v in zip(columns, row, strict=True) if v)
            console.print(Text(line_for_person(f"{title}: {told}")), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(title, style="bold", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="left" if name in ("task", "form", "mode") else "right")
    for row in rows:
        table.add_row("", *(Text(line_for_person(value)) for value in row))
    console.print()
    console.print(table)
