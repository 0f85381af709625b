"""A run's results in numbers, the common source of pages and plots.

All of it is of the run as it was made: what persons edited later changes nothing here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from autointerp.config.settings import all_settings, preferred
from autointerp.report.distributions import (
    Curve,
    Distribution,
    Histogram,
    Scatter,
    curves,
    density_histogram,
    distributions,
    scatters,
)
from autointerp.runs.directory import Run
from autointerp.runs.record import (
    CollectRecord,
    LabelRecord,
    RecordedSettings,
    ScoreRecord,
    StageRecord,
    StageRecords,
)
from autointerp.scoring import SCORERS
from autointerp.storage.files import files_identity
from autointerp.tables.collisions import Collisions, collisions
from autointerp.tables.compare import spent
from autointerp.tables.migrate import current, open_table
from autointerp.tables.strata_table import load_strata
from autointerp.tables.window_length import window_length

_MAX_FAILURES = 20
_LABEL_COLUMNS = [
    *("sae", "feature", "status", "label", "density", "flags", "error"),
    *("prompt_tokens", "completion_tokens", "cost_usd"),
]
_SCORE_COLUMNS = ["feature", "scorer", "metric", "value", "null_value", "p_value", "q_value"]


@dataclass(frozen=True, slots=True)
class Count:
    name: str
    n: int


@dataclass(frozen=True, slots=True)
class Failure:
    """`n` features of this status gave this reason; a labeled one's is why judging it failed."""

    status: str
    reason: str
    n: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What labels and scores took; `cost_usd` is None where a price is not known.

    `per_feature_usd` is of the features that a model was asked about. `requests` went to the
    model, `from_journal` were answered by replies that had been paid for before: None where no
    stage that finished asked one.
    """

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    per_feature_usd: float | None
    requests: int | None
    from_journal: int | None


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a finished stage took, in seconds, the last time that it was run."""

    stage: str
    seconds: float
    features_per_second: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """A run in numbers, all of them finite; what it has not come to is empty or None.

    `settings` are those that differ from the defaults, `window_length` the tokens a window, which
    is what population scores are of, `counts` the features by status, commonest
    first. `failures` are the 20 most frequent reasons, and the rest as one, "other". `corpus` is
    what `collect` recorded of the tokens it saw.
    """

    name: str
    sae: str
    model: str | None
    judge: str | None
    settings: dict[str, Any]
    window_length: int | None
    counts: list[Count]
    failures: list[Failure]
    flags: list[Count]
    scores: list[Distribution]
    scatter: list[Scatter]
    density: Histogram | None
    strata: list[Curve]
    corpus: dict[str, Any] | None
    cost: Cost | None
    time: list[StageTime]
    labels: Collisions | None


def overview(run: Run) -> Overview:
    """The run in numbers; a run that has not come so far gives the parts that are there.

    The first call reads all predictions; later ones take what it found while they stay the same.
    Raises AutointerpError where a file is damaged.
    """
    stages = run.stages()
    labels = _read(run.labels, [*_LABEL_COLUMNS, *(f"{name}_n" for name in SCORERS)])
    evidence = _read(run.features, ["sae", "density"])
    scores = scores_of(run, labels)
    scored = not scores.empty and run.predictions.is_file()
    names = [*evidence["sae"].head(1), *labels["sae"].head(1)]
    return Overview(
        name=run.path.resolve().name,
        sae=str(names[0]) if names else "",
        model=stages.label.labeler if stages.label else None,
        judge=stages.score.judge if stages.score else None,
        settings=_settings(run.settings()),
        window_length=window_length(run),
        counts=status_counts(labels),
        failures=failures(labels),
        flags=flag_counts(labels),
        scores=distributions(scores),
        scatter=scatters(scores, labels["feature"].to_numpy(), labels["density"].to_numpy()),
        density=_densities(evidence),
        strata=_curves(run.path, files_identity([run.predictions])) if scored else [],
        corpus=stages.collect.corpus.model_dump()
        if stages.collect and stages.collect.corpus
        else None,
        cost=_cost(labels, stages) if len(labels) else None,
        time=[_time(name, stage) for name, stage in stages.done()],
        labels=collisions(labels["label"].tolist()),
    )


def _densities(evidence: pd.DataFrame) -> Histogram | None:
    """None where no feature's density is known, as of imported records."""
    known = evidence["density"].dropna()
    return density_histogram(known.to_numpy()) if len(known) else None


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    """The columns, null where the file lacks one; no rows where there is no file."""
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    file = open_table(path)
    there = set(file.schema_arrow.names)
    table = current(file.read(columns=[name for name in columns if name in there]), path)
    for name in columns:
        if name not in table.column_names:  # of a scorer that the run does not have
            table = table.append_column(name, pa.nulls(len(table)))
    categories = [n for n in ("sae", "status", "scorer", "metric") if n in columns]
    frame: pd.DataFrame = table.select(columns).to_pandas(categories=categories)
    return frame


def scores_of(run: Run, labels: pd.DataFrame) -> pd.DataFrame:
    """The scores of the labels that the run has; a file left from labels before is not read.

    When features are labeled anew the label table loses its scores until `score` has run.
    """
    scored = [n for n in SCORERS if f"{n}_n" in labels and labels[f"{n}_n"].notna().any()]
    scores = _read(run.scores, _SCORE_COLUMNS)
    return scores[scores["scorer"].isin(scored)]


def status_counts(labels: pd.DataFrame) -> list[Count]:
    """Features by status, commonest first. `labels`: the label table."""
    return _counted(labels["status"])


def flag_counts(labels: pd.DataFrame) -> list[Count]:
    """Features by flag, commonest first."""
    return _counted(labels["flags"].explode())


def _counted(column: pd.Series) -> list[Count]:
    return [Count(str(name), int(n)) for name, n in column.value_counts().items() if n]


def failures(labels: pd.DataFrame, most: int = _MAX_FAILURES) -> list[Failure]:
    """Why features have no label or were not judged: the `most` frequent reasons, then the rest."""
    known = labels.loc[labels["error"].notna(), ["status", "error"]].astype(str)
    counts = Counter(zip(known["status"], known["error"], strict=True)).most_common()
    found = [Failure(status, reason, n) for (status, reason), n in counts[:most]]
    rest = sum(n for _, n in counts[most:])
    return [*found, Failure("", "other", rest)] if rest else found


def _settings(recorded: RecordedSettings) -> dict[str, Any]:
    known = all_settings()
    every = recorded.shown().items()
    return {preferred(n): v for n, v in every if n not in known or v != known[n].field.default}


@lru_cache(maxsize=4)
def _curves(path: Path, identity: str) -> list[Curve]:
    """Of the predictions that were there when they had this identity."""
    return curves(load_strata(path))


def _cost(labels: pd.DataFrame, stages: StageRecords) -> Cost:
    used = spent(labels)
    asked = int((labels["prompt_tokens"] > 0).sum())
    totals = list(_totals(stages.model_dump()))
    return Cost(
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cost_usd=used.cost_usd,
        per_feature_usd=None if used.cost_usd is None or not asked else used.cost_usd / asked,
        requests=sum(t["requests"] for t in totals) if totals else None,
        from_journal=sum(t["from_journal"] for t in totals) if totals else None,
    )


def _totals(entry: Mapping[str, Any]) -> Iterator[Mapping[str, int]]:
    """What pools recorded (`llm.totals.PoolTotals`), at whatever depth of the stages' details."""
    if all(type(entry.get(name)) is int for name in ("requests", "from_journal")):
        yield entry
    for inner in entry.values():
        if isinstance(inner, dict):
            yield from _totals(inner)


def _time(name: str, stage: StageRecord) -> StageTime:
    done, seconds = _features(stage), stage.seconds
    return StageTime(name, seconds, done / seconds if done and seconds > 0 else None)


def _features(stage: StageRecord) -> int | None:
    """Of how many features the stage made something, where that is known."""
    match stage:
        case CollectRecord():
            if stage.imported:
                return stage.imported.features
            return stage.corpus.features if stage.corpus else None
        case LabelRecord():
            return sum(stage.outcomes.values())
        case ScoreRecord():
            return stage.scored
    return None
