"""Building a run's tables from drafts, evidence and scores."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.errors import NotDoneError
from autointerp.labeling.labeler import Candidate, Draft
from autointerp.metrics.estimates import Estimate
from autointerp.rules.lexical import NAME as LEXICAL
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import Judged, Score
from autointerp.storage.files import atomic_path
from autointerp.storage.parquet_files import WRITTEN, read_parquet, write_parquet
from autointerp.tables.collisions import shares_label
from autointerp.tables.expected_f1 import expected_columns
from autointerp.tables.migrate import current, open_table
from autointerp.tables.schema import CANDIDATES, PREDICTIONS, SCORES, labels_schema

_ROW_GROUP = 65_536
_FLUSH_ROWS = 20_000
_AS_DRAFTED = (
    *("feature", "status", "label", "label_of", "reason", "confidence"),
    *("polysemantic", "meanings", "labeler", "prompt_hash", "request"),
)
_AS_COLLECTED = ("density", "window_density", "max_activation", "n_active")
_PARSED = 0.9  # of the judgments, below which a score is flagged


def write_table(rows: list[dict[str, Any]], schema: pa.Schema, path: Path) -> None:
    """Write rows as a whole file or not at all; columns that a row lacks are null."""
    _write(pa.Table.from_pylist(rows, schema=schema), path)


def _write(table: pa.Table, path: Path) -> None:
    with atomic_path(path) as temporary:
        write_parquet(table, temporary, _ROW_GROUP)


_DRAFTS = pa.schema(
    [
        ("feature", pa.int32()),
        *((name, pa.string()) for name in ("status", "labeler", "label", "reason")),
        ("label_of", pa.int32()),
        ("confidence", pa.float32()),
        ("polysemantic", pa.bool_()),
        ("meanings", pa.list_(pa.string())),
        ("candidates", CANDIDATES),
        *((name, pa.string()) for name in ("prompt_hash", "request", "rule")),
        *((name, pa.list_(pa.string())) for name in ("asked_again", "flags")),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("error", pa.string()),
    ]
)


def write_drafts(drafts: Iterable[Draft], path: Path) -> None:
    rows = sorted((asdict(d) for d in drafts), key=lambda row: row["feature"])
    write_table(rows, _DRAFTS, path)


def no_drafts(path: Path) -> str | None:
    """What to say where nothing has been labeled; None where something has."""
    if path.is_file():
        return None
    return f"no labels: {path} is missing; run `autointerp label` first"


def read_drafts(path: Path, feature: int | None = None) -> list[Draft]:
    """Of all features, or of one. Raises NotDoneError where nothing has been labeled."""
    if missing := no_drafts(path):
        raise NotDoneError(missing)
    names = [f.name for f in fields(Draft)]
    # By the schema, so that columns that an earlier version did not write are null.
    only = None if feature is None else [("feature", "=", feature)]
    rows = read_parquet(path, schema=_DRAFTS, filters=only).to_pylist()
    for row in rows:
        if row["candidates"] is not None:
            row["candidates"] = [Candidate(**candidate) for candidate in row["candidates"]]
    return [Draft(**{name: row[name] for name in names}) for row in rows]


def _number(value: float | None) -> float | None:
    """Missing is null, never NaN and never zero."""
    return None if value is None or math.isnan(value) else value


def _nullable(values: np.ndarray | None) -> Any:
    """The values with null in the place of NaN."""
    if values is None or not np.isnan(values).any():
        return values
    return [_number(value) for value in values.tolist()]


def _score_columns(scores: Iterable[Score]) -> dict[str, Any]:
    columns: dict[str, Any] = {"flags": []}
    for score in scores:
        estimate = score.estimate
        if score.metric == SCORERS[score.scorer].metric:
            columns |= {
                f"{score.scorer}_{score.metric}": _number(estimate.value),
                f"{score.scorer}_ci_low": _number(estimate.ci_low),
                f"{score.scorer}_ci_high": _number(estimate.ci_high),
                f"{score.scorer}_null": _number(score.null_value),
                f"{score.scorer}_lift": _number(score.lift),
                f"{score.scorer}_p_value": _number(score.p_value),
                f"{score.scorer}_q_value": _number(score.q_value),
                f"{score.scorer}_parse_rate": _number(score.parse_rate),
                f"{score.scorer}_n": estimate.n,
                f"{score.scorer}_mode": score.mode,
            }
            if score.parse_rate < _PARSED:
                columns["flags"].append(f"{score.scorer}_parse_rate")
            if score.uniform:
                columns["flags"].append(f"{score.scorer}_uniform")
        else:
            columns |= {
                score.metric: _number(estimate.value),
                f"{score.metric}_ci_low": _number(estimate.ci_low),
                f"{score.metric}_ci_high": _number(estimate.ci_high),
            }
    return columns


def write_labels(
    coder: str,
    drafts: Iterable[Draft],
    statistics: Mapping[int, Mapping[str, Any]],
    scores: Mapping[int, list[Score]],
    judging: Mapping[int, list[Judged]],
    priced: bool,
    path: Path,
) -> None:
    """Write `labels.parquet`: one row a draft, sorted by feature, scores null where there are none.

    Tokens and cost of a row are what its label and all judgments of its windows took; where the
    model's price is not known (`priced` is false) a row that used tokens has no cost.
    """
    rows = sorted(drafts, key=lambda d: d.feature)
    seen = [statistics[d.feature] for d in rows]
    judged = [judging.get(d.feature, ()) for d in rows]
    spent = [(draft, *more) for draft, more in zip(rows, judged, strict=True)]
    prompt_tokens = [sum(s.prompt_tokens for s in each) for each in spent]
    scorers = {score.scorer for of_feature in scores.values() for score in of_feature}
    schema = labels_schema(s for s in SCORERS if s in scorers)
    # By column, not by row: there may be a million rows, and most columns may be empty.
    columns: dict[str, Any] = {name: [getattr(d, name) for d in rows] for name in _AS_DRAFTED}
    columns |= {name: [s[name] for s in seen] for name in _AS_COLLECTED}
    columns |= {
        "sae": [coder] * len(rows),
        "candidates": [_structs(d.candidates) for d in rows],
        "shares_label": shares_label(columns["label"]),
        "top_tokens": [[t["token"] for t in s["top_tokens"]] for s in seen],
        "prompt_tokens": prompt_tokens,
        "completion_tokens": [sum(s.completion_tokens for s in each) for each in spent],
        "cost_usd": [
            sum(s.cost_usd for s in each) if priced or not tokens else None
            for each, tokens in zip(spent, prompt_tokens, strict=True)
        ],
        "error": [_error(draft, more) for draft, more in zip(rows, judged, strict=True)],
    }
    of_scores = [_score_columns(scores.get(d.feature, ())) for d in rows]
    for draft, found in zip(rows, of_scores, strict=True):
        found["flags"] = [*(draft.flags or ()), *found["flags"]]
    columns |= expected_columns(rows, seen, columns["shares_label"], scores)
    for name in {name for found in of_scores for name in found} & set(schema.names):
        columns[name] = [found.get(name) for found in of_scores]
    arrays = [
        pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(len(rows), f.type)
        for f in schema
    ]
    _write(pa.table(arrays, schema=schema), path)


def _structs(candidates: Iterable[Candidate] | None) -> list[dict[str, Any]] | None:
    return None if candidates is None else [asdict(candidate) for candidate in candidates]


def _error(draft: Draft, judged: Iterable[Judged]) -> str | None:
    errors = [draft.error, *(f"{j.scorer}: {j.error}" for j in judged if j.error)]
    return "; ".join(dict.fromkeys(e for e in errors if e)) or None


def write_scores(
    coder: str,
    scores: Iterable[Score],
    judge_of: Callable[[Score], str],
    prompt_hashes: Mapping[str, str],
    path: Path,
) -> None:
    """Write `scores.parquet`, one row a feature, scorer and metric; a rule is given no prompt."""
    rows = [
        {
            "sae": coder,
            "feature": score.feature,
            "scorer": score.scorer,
            "metric": score.metric,
            "mode": score.mode,
            "value": _number(score.estimate.value),
            "ci_low": _number(score.estimate.ci_low),
            "ci_high": _number(score.estimate.ci_high),
            "null_value": _number(score.null_value),
            "p_value": _number(score.p_value),
            "q_value": _number(score.q_value),
            "lift": _number(score.lift),
            "n": score.estimate.n,
            "parse_rate": _number(score.parse_rate),
            "uniform": score.uniform,
            "judge": (judge := judge_of(score)),
            "prompt_hash": None
            if judge == LEXICAL
            else prompt_hashes.get(SCORERS[score.scorer].template(score.mode)),
        }
        for score in scores
    ]
    rows.sort(key=lambda row: (row["feature"], row["scorer"], row["metric"]))
    write_table(rows, SCORES, path)


def read_scores(path: Path) -> dict[int, list[Score]]:
    """The scores of each feature, as `write_labels` takes them."""
    found: dict[int, list[Score]] = {}
    for row in current(open_table(path).read(), path).to_pylist():
        if row["scorer"] not in SCORERS:  # of another version, or of a package not installed here
            continue
        value, low, high = (_float(row[name]) for name in ("value", "ci_low", "ci_high"))
        score = Score(
            feature=row["feature"],
            scorer=row["scorer"],
            metric=row["metric"],
            estimate=Estimate(value, low, high, row["n"]),
            null_value=row["null_value"],
            parse_rate=_float(row["parse_rate"]),
            p_value=row["p_value"],
            lift=row["lift"],
            q_value=row["q_value"],
            mode=row["mode"],
            uniform=bool(row["uniform"]),
        )
        found.setdefault(score.feature, []).append(score)
    return found


def _float(value: float | None) -> float:
    return math.nan if value is None else value


class PredictionWriter:
    """Streams `predictions.parquet` to a temporary file; memory holds a few thousand rows."""

    def __init__(self, coder: str, path: Path) -> None:
        self._coder = coder
        self._writer = pq.ParquetWriter(path, PREDICTIONS, **WRITTEN)
        self._rows: list[dict[str, Any]] = []

    def add(self, judged: Judged) -> None:
        per_token = SCORERS[judged.scorer].per_token
        for j in judged.judgments:
            window, marks = j.item.window, j.item.marks
            row: dict[str, Any] = {
                "sae": self._coder,
                "feature": judged.feature,
                "scorer": judged.scorer,
                "window": {"kind": window.kind, "rank": window.rank},
                "stratum": j.item.stratum,
                "quantile": window.quantile,
                "marks": None if marks is None else np.flatnonzero(marks),
                "label_of": judged.label_of,
                "mode": judged.mode,
                "probability": j.probability,
                "parsed": j.prediction is not None,
            }
            if per_token:
                row["token_truth"] = j.item.truth
                row["token_prediction"] = _nullable(j.prediction)
            else:
                row["truth"] = float(j.item.truth[0])
                row["prediction"] = None if j.prediction is None else float(j.prediction[0])
            self._rows.append(row)
        if len(self._rows) >= _FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=PREDICTIONS))
            self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()
