"""Runs, features and label tables in the terminal."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from autointerp.errors import InputError
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.evidence.window_text import marked, marks_for, one_line, quoted
from autointerp.metrics.population import MAX_WIDTH
from autointerp.plain_text import line_for_person, listed
from autointerp.report.control_table import metric_name, other_labels_line
from autointerp.report.distributions import distributions
from autointerp.report.expected import expected_lines
from autointerp.report.judges import judge_lines
from autointerp.report.overview import failures, scores_of, status_counts
from autointerp.runs.directory import Run
from autointerp.runs.record import CorpusSummary
from autointerp.scoring import SCORERS
from autointerp.storage.columns import description
from autointerp.tables.collisions import Collisions, collisions
from autointerp.tables.compare import spent
from autointerp.tables.control import against_other_labels
from autointerp.tables.expected_f1 import EXPECTED
from autointerp.tables.read import load_labels
from autointerp.tables.schema import EDITED, RUN, labels_schema
from autointerp.tables.window_length import of_windows
from autointerp.vocabulary import Vocabulary

_SHOWN_WINDOWS = 5
_SHOWN_FEATURES, _SHOWN_TOKENS = 5, 8
_SHOWN_REASONS = 3
_SORTS = {
    "f1": "population_f1_ci_low",
    "population_f1": "population_f1_ci_low",
    "expected_f1": "expected_f1_ci_low",
    "density": "density",
    "confidence": "confidence",
    "feature": "feature",
}


def _headlines() -> dict[str, str]:
    """Scorer → the column of its main metric."""
    return {name: f"{name}_{scorer.metric}" for name, scorer in SCORERS.items()}


def _number(value: object, digits: int = 2) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}f}"


def _interval(row: Mapping[str, Any], scorer: str) -> str:
    value = _number(row[_headlines()[scorer]])
    if value == "–":
        return value
    low, high = _number(row[f"{scorer}_ci_low"]), _number(row[f"{scorer}_ci_high"])
    return f"{value} ({low} to {high})"


def _f1(row: Mapping[Any, Any]) -> str:
    """Unknown where there is an interval and no value; after ~ what to expect of one not scored."""
    if pd.notna(row["population_f1"]):
        return _number(row["population_f1"])
    if pd.notna(row["population_f1_ci_low"]):
        return "unknown"
    expected = row.get(EXPECTED)
    return "–" if expected is None or pd.isna(expected) else f"~{_number(expected)}"


def _plain(value: object) -> str:
    """Text from a table, safe to print; empty where there is none."""
    return line_for_person(value) if isinstance(value, str) else ""


def label_table(frame: pd.DataFrame, title: str, windows: str) -> Table:
    """The label table's main columns: each score beside that of another feature's label.

    windows: what F1 is of, in words.
    """
    table = Table(
        title=Text(line_for_person(title)),
        caption=Text(f"F1: of {windows}. windows, tokens: share in which the feature fires"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("feature", justify="right")
    table.add_column("label", min_width=18, overflow="fold")
    for name in ("det.", "null", "sim.", "null", "F1", "windows", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in frame.to_dict("records"):
        shown = _plain(row["label"]) or f"({_plain(row['status'])})"
        table.add_row(
            str(row["feature"]),
            Text(shown),
            _number(row["detection_balanced_accuracy"]),
            _number(row["detection_null"]),
            _number(row["simulation_correlation"]),
            _number(row["simulation_null"]),
            _f1(row),
            _share(row["window_density"]),
            _share(row["density"]),
        )
    return table


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2g} %"


def window_text(window: Window, vocabulary: Vocabulary, largest: float, *, shaded: bool) -> Text:
    """One window on a line, tokens shaded by activation relative to the feature's largest.

    Without shades, as in a file, the active tokens stand between marks instead.
    """
    if not shaded:
        return Text(marked(window, vocabulary, marks_for([window], vocabulary)))
    line = Text()
    for piece, activation in zip(
        vocabulary.pieces(window.token_ids.tolist()), window.activations.tolist(), strict=True
    ):
        share = activation / largest if largest > 0 else 0.0
        if share > 0:
            style = f"bold black on rgb(255,{int(235 - 120 * share)},{int(170 - 150 * share)})"
        else:
            style = ""
        line.append(one_line(piece), style=style)
    return line


def _densities(evidence: FeatureEvidence, windows: str) -> str:
    """Nothing where they are unknown, as of imported records."""
    parts = ""
    if math.isfinite(evidence.density):
        parts += f" ({100 * evidence.density:.3g} %)"
    if math.isfinite(evidence.window_density):
        parts += f", in {100 * evidence.window_density:.3g} % of {windows}"
    return parts


def feature_panel(
    run: Run, evidence: FeatureEvidence, row: Mapping[str, Any] | None, *, shaded: bool
) -> Panel:
    """Label, scores, statistics and highlighted windows of one feature."""
    vocabulary = Vocabulary.load(run.vocabulary)
    parts: list[Text | Table] = []
    if row is not None:
        label = _plain(row["label"]) or f"({_plain(row['status'])})"
        parts.append(Text(label, style="bold"))
        for name in ("reason", "error"):
            if _plain(row[name]):
                parts.append(Text(_plain(row[name])))
        confidence = _number(row["confidence"])
        parts.append(
            Text(f"labeler {_plain(row['labeler'])}, confidence {confidence}", style="dim")
        )
        scores = Table(box=None, pad_edge=False)
        for name in ("score", "value (95 % interval)", "null", "windows"):
            scores.add_column(name)
        if pd.notna(low := row.get("population_f1_ci_low")):
            interval = f"({_number(low)} to {_number(row['population_f1_ci_high'])})"
            about = f"population F1, of {of_windows(run)}"
            n = row["detection_n"]
            known = "–" if pd.isna(n) else str(int(n))
            scores.add_row(about, f"{_f1(row)} {interval}", "", known)
        for scorer, column in _headlines().items():
            if column not in row:
                continue
            n = row[f"{scorer}_n"]
            scores.add_row(
                column.replace("_", " "),
                _interval(row, scorer),
                _number(row[f"{scorer}_null"]),
                "–" if pd.isna(n) else str(int(n)),
            )
        parts += [scores, Text("null: the same score for another feature's label", style="dim")]
    tokens = ", ".join(f"{quoted(t.token)} ×{t.count}" for t in evidence.top_tokens[:_SHOWN_TOKENS])
    parts.append(
        Text(
            f"fires on {evidence.n_active:,} tokens{_densities(evidence, of_windows(run))}, "
            f"mean {evidence.mean_activation:.3g}, max {evidence.max_activation:.3g}"
        )
    )
    parts.append(Text(f"top tokens among sampled firings: {tokens or 'none'}"))
    for what, features in (
        ("fires together with (share of tokens)", evidence.coactive),
        ("similar decoder directions (cosine)", evidence.similar),
    ):
        if features:
            listed = ", ".join(f"{f} ({score:.2f})" for f, score in features[:_SHOWN_FEATURES])
            parts.append(Text(f"{what}: {listed}"))
    for what, raised in (("raises", evidence.raised_tokens), ("lowers", evidence.lowered_tokens)):
        if raised:
            listed = ", ".join(quoted(token) for token in raised[:_SHOWN_TOKENS])
            parts.append(Text(f"{what} the next token's probability: {listed}"))
    for title, kind, split in (
        ("largest activations", "top", "label"),
        ("sampled firings", "sample", "label"),
        ("unseen, used for scoring", "sample", "score"),
    ):
        windows = evidence.of(split, kind)[:_SHOWN_WINDOWS]  # type: ignore[arg-type]
        if windows:
            parts.append(Text(f"\n{title}", style="bold"))
        for window in windows:
            value = f"{float(window.activations.max(initial=0.0)):6.2f}  "
            shown = window_text(window, vocabulary, evidence.max_activation, shaded=shaded)
            parts.append(Text(value, style="dim") + shown)
    return Panel(Group(*parts), title=f"feature {evidence.feature}", title_align="left")


def show_feature(run: Run, feature: int, console: Console) -> None:
    store = EvidenceStore(run.windows, run.features)
    settings = run.record().config
    chosen = str(settings.get("features", ""))
    if chosen.startswith("random:") and feature not in (drawn := store.features):
        raise InputError(
            f"feature {feature} was not selected: {run.path} has {chosen} with seed "
            f"{settings.get('seed', 0)}, which are {listed(drawn)}"
        )
    evidence = next(iter(store.read([feature])))
    row = None
    if run.labels.is_file():
        labels = load_labels(run.path)
        found = labels[labels["feature"] == feature].to_dict("records")
        row = {str(k): v for k, v in found[0].items()} if found else None
    console.print(feature_panel(run, evidence, row, shaded=console.is_terminal))


def collision_line(found: Collisions) -> str:
    """How far a run's labels tell its features apart."""
    line = f"{found.distinct:,} distinct for {found.labeled:,} features"
    if found.distinct == found.labeled:
        return f"{line}, none is shared"
    return (
        f"{line} ({found.mean_reuse:.2f} each): {found.shared:.1%} of features share theirs, most "
        f"{_plain(found.most_common)!r} ×{found.most_common_count:,}, "
        f"H(label)/log₂ n {found.entropy:.3f}"
    )


def summary(run: Run) -> Table:
    """What the run came to: outcomes, scores against their null, cost and time."""
    labels = load_labels(run.path)
    table = Table(title=Text(line_for_person(f"run {run.path}")), show_header=False)
    table.add_column(style="bold")
    table.add_column()

    def row(name: str, value: str) -> None:
        # What a server or a path says is not markup.
        table.add_row(name, Text(line_for_person(value)))

    row("features", ", ".join(f"{c.n:,} {c.name}" for c in status_counts(labels)))
    for failed in failures(labels[labels["status"] == "failed"], _SHOWN_REASONS):
        row("failed", f"{failed.n:,}: {failed.reason}")
    if found := collisions(labels["label"].tolist()):
        row("labels", collision_line(found))
    stages = run.stages()
    if stages.collect and (corpus := stages.collect.corpus):
        row(
            "corpus",
            f"{corpus.tokens:,} tokens, mean L0 {corpus.mean_l0:.1f}{_spread(corpus)}; "
            f"{corpus.features:,} features: {corpus.dead:,} dead, {corpus.dense:,} dense "
            "(> 10 % of tokens)",
        )
        masked = ", ".join(f"{n:,} {why}" for why, n in corpus.masked.items() if n)
        row("masked", masked or "nothing")
    if stages.collect and (imported := stages.collect.imported):
        row("imported", "; ".join([imported.line(), *stages.collect.remarks]))
    scores = {d.title: d for d in distributions(scores_of(run, labels))}
    for title, d in scores.items():
        if d.main:
            beside = ""
            if d.null_median is not None:
                whose = "by chance" if d.by_chance else "of another feature's label"
                beside = f" ({whose} {d.null_median:.3f})"
            row(title, f"median {d.median:.3f}{beside}, {d.n:,} features")
            if told := d.discovery_line():
                row("", told)
    for title, line in judge_lines(run):
        row(title, line)
    for name, against in against_other_labels(run).items():
        row(metric_name(*name), other_labels_line(against))
    if labels["population_f1_ci_low"].notna().any():
        row("population F1", _population_line(labels, of_windows(run)))
    for title, line in expected_lines(run, labels):
        row(title, line)
    used = spent(labels)
    if used.prompt_tokens or used.completion_tokens:
        cost = "price unknown" if used.cost_usd is None else f"${used.cost_usd:,.4f}"
        tokens = f"{used.prompt_tokens:,} prompt and {used.completion_tokens:,} completion tokens"
        row("model", f"{tokens}, {cost}")
    row("seconds", ", ".join(f"{name} {stage.seconds:.1f}" for name, stage in stages.done()))
    row("table", str(run.labels))
    return table


def _population_line(labels: pd.DataFrame, windows: str) -> str:
    values = labels.loc[labels["population_f1_ci_low"].notna(), "population_f1"]
    known = values.dropna().astype(float)
    line = f"median {known.median():.3f}, of all {windows} in the corpus, {len(known):,} features"
    if unknown := len(values) - len(known):
        share = unknown / len(values)
        why = f"their 95 % intervals are wider than {MAX_WIDTH}"
        line = f"{line}; " if len(known) else ""
        line += f"unknown for {unknown:,} ({share:.0%}): {why}"
    return line


def _spread(corpus: CorpusSummary) -> str:
    found = corpus.l0_quantiles
    return f" (5–95 %: {found.p5} to {found.p95})" if found else ""


def print_columns(console: Console) -> None:
    """Print every column that a label table can have, a line each: name, type, what it holds."""
    fields = [*labels_schema(SCORERS), *EDITED, RUN]
    rows = [(field.name, _kind(field.type), description(field)) for field in fields]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    for name, kind, about in rows:
        line = f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {about}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_kind(kind.value_type)}"
    return "struct" if pa.types.is_struct(kind) else str(kind)


def print_labels(run: Run, sort: str, limit: int, grep: str | None, console: Console) -> None:
    """Print the table's first rows; scores sort from best to worst. Raises AutointerpError."""
    frame = load_labels(run.path)
    sorts = _headlines() | _SORTS
    known = [name for name, column in sorts.items() if column in frame]
    if sort not in known:
        raise InputError(f"--sort {sort}: choose one of {', '.join(known)}, which this run has")
    if grep is not None:
        try:
            pattern = re.compile(grep)
        except re.error as error:
            raise InputError(f"--grep {grep!r} is not a regular expression: {error}") from None
        matches = [isinstance(v, str) and bool(pattern.search(v)) for v in frame["label"]]
        frame = frame[np.array(matches, dtype=bool)]  # of no rows, a list would be of no columns
    column = sorts[sort]
    frame = frame.sort_values(column, ascending=column == "feature", na_position="last")
    title = f"{min(limit, len(frame))} of {len(frame)} rows"
    console.print(label_table(frame.head(limit), title, of_windows(run)))
