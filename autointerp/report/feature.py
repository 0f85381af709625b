"""Everything there is to see of one feature, read from a run's files."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from autointerp.errors import InputError
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore, histogram_edges_of, known_of_all
from autointerp.evidence.window import Window
from autointerp.evidence.window_text import one_line, shown_tokens
from autointerp.report.page_model import (
    Decile,
    FeaturePage,
    Related,
    ShownJudgment,
    ShownLogit,
    ShownScore,
    ShownStatistics,
    ShownToken,
    ShownWindow,
)
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS, chance_of
from autointerp.scoring.scorer import FIRES
from autointerp.storage.parquet_files import read_parquet
from autointerp.tables.edits import Edit, edited_row, read_edits
from autointerp.tables.migrate import current, open_table
from autointerp.tables.window_length import window_length
from autointerp.vocabulary import Vocabulary

_DIGITS = 4  # significant ones of activations: a page is no place for more


class FeaturePages:
    """Pages of one run's features; what all of them need is read once.

    Raises AutointerpError where the run has no evidence, or no such feature.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._store = EvidenceStore(run.windows, run.features)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self._run.vocabulary)

    @cached_property
    def _corpus(self) -> Corpus | None:
        return Corpus.read(self._run.corpus) if self._run.corpus.is_file() else None

    @cached_property
    def _labels(self) -> tuple[np.ndarray, pa.ChunkedArray]:
        """Features, ascending, and their labels."""
        path = self._run.labels
        table = current(open_table(path).read(columns=["feature", "label"]), path)
        return table["feature"].to_numpy(), table["label"]

    @cached_property
    def _scored(self) -> set[str]:
        """Scorers of the labels that the run has: files may be left from labels before."""
        if not self._run.labels.is_file():
            return set()
        file = open_table(self._run.labels)
        names = {f"{name}_n": name for name in SCORERS}
        table = file.read(columns=[n for n in names if n in file.schema_arrow.names])
        return {names[n] for n in table.column_names if table[n].null_count < len(table)}

    def _of_scorers(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["scorer"] in self._scored]

    @cached_property
    def _edited(self) -> dict[int, str | None]:
        return {edit.feature: edit.label for edit in read_edits(self._run) if edit.is_label()}

    def page(self, feature: int) -> FeaturePage:
        statistics = self._statistics(feature)
        edits = read_edits(self._run, feature)
        judgments = self._of_scorers(_rows(self._run.predictions, feature))
        windows = {_key(w.kind, w.split, w.rank): w for w in self.windows(feature)}
        windows |= self._of_corpus(judgments)
        return FeaturePage(
            feature=feature,
            row=self._row(feature, edits),
            edits=edits,
            statistics=statistics,
            scores=[_score(row) for row in self._of_scorers(_rows(self._run.scores, feature))],
            deciles=_deciles(feature, judgments),
            windows=windows,
            judged=[_judgment(row, windows) for row in judgments],
        )

    def _row(self, feature: int, edits: Sequence[Edit]) -> dict[str, Any]:
        """The feature's row of the label table, edits applied."""
        rows = (edited_row(row, edits) for row in _rows(self._run.labels, feature))
        return {name: _finite(value) for row in rows for name, value in row.items()}

    def windows(
        self, feature: int, kind: str | None = None, split: str | None = None
    ) -> list[ShownWindow]:
        """The feature's own windows, of one kind or split where these are given."""
        return [
            self._shown(window)
            for _, windows in self._store.windows([feature])
            for window in windows
            if kind in (None, window.kind) and split in (None, window.split)
        ]

    def _shown(self, window: Window) -> ShownWindow:
        return ShownWindow(
            kind=window.kind,
            split=window.split,
            rank=window.rank,
            context=window.context,
            start=window.start,
            peak=window.peak,
            quantile=_finite(window.quantile),
            tokens=_without_halves(window.token_ids.tolist(), self._vocabulary),
            activations=[_rounded(a) for a in window.activations.tolist()],
        )

    def _of_corpus(self, judgments: Iterable[Mapping[str, Any]]) -> dict[str, ShownWindow]:
        """The silent windows that were judged, from the sample that all features share."""
        wanted = {j["window"]["rank"] for j in judgments if j["window"]["kind"] == "corpus"}
        if not wanted or self._corpus is None:
            return {}
        known = (rank for rank in sorted(wanted) if rank < len(self._corpus))
        found = (self._corpus.silent_window(rank) for rank in known)
        return {_key(w.kind, w.split, w.rank): self._shown(w) for w in found}

    def _statistics(self, feature: int) -> ShownStatistics:
        rows = _rows(self._run.features, feature)
        if not rows:
            raise InputError(f"feature {feature} was not collected in the run {self._run.path}")
        row = rows[0]
        for name in (*known_of_all(self._run.features), "histogram"):
            if row[name] is None:
                raise InputError(f"{self._run.features}: feature {feature} has no {name}")
        return ShownStatistics(
            n_active=row["n_active"],
            density=row["density"],
            window_density=_finite(row["window_density"]),
            window_length=window_length(self._run),
            mean_activation=row["mean_activation"],
            max_activation=row["max_activation"],
            edges=self._edges,
            histogram=row["histogram"],
            top_tokens=[
                ShownToken(one_line(t["token"]), t["count"], _rounded(t["mean_activation"]))
                for t in row["top_tokens"]
            ],
            raised_tokens=_logits(row["raised_tokens"]),
            lowered_tokens=_logits(row["lowered_tokens"]),
            similar=self._related(row["similar"], "cosine"),
            coactive=self._related(row["coactive"], "jaccard"),
        )

    @cached_property
    def _edges(self) -> list[float]:
        return histogram_edges_of(self._run.features)

    def _related(self, found: Sequence[Mapping[str, Any]] | None, share: str) -> list[Related]:
        return [
            Related(one["feature"], _rounded(one[share]), self._label(one["feature"]))
            for one in found or []
        ]

    def _label(self, feature: int) -> str | None:
        if feature in self._edited:
            return self._edited[feature]
        if not self._run.labels.is_file():
            return None
        features, labels = self._labels
        place = int(np.searchsorted(features, feature))
        known = place < len(features) and features[place] == feature
        return labels[place].as_py() if known else None


def _rows(path: Path, feature: int) -> list[dict[str, Any]]:
    """A feature's rows of a table that is about sorted by feature; none before it is written."""
    if not path.is_file():
        return []
    open_table(path)
    table = read_parquet(path, filters=[("feature", "==", feature)])
    rows: list[dict[str, Any]] = current(table, path).to_pylist()
    return rows


def _key(kind: str, split: str, rank: int) -> str:
    return f"{kind}-{split}-{rank}"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _without_halves(token_ids: list[int], vocabulary: Vocabulary) -> list[str]:
    """A window's tokens as they are shown, without the parts of characters that it cuts through."""
    shown = shown_tokens(token_ids, vocabulary)
    ends = (range(len(shown)), str.lstrip), (range(len(shown) - 1, -1, -1), str.rstrip)
    for places, strip in ends:
        for i in places:
            if "\ufffd" not in vocabulary.token_text(token_ids[i]):
                break
            shown[i] = strip(shown[i], "\ufffd")
            if shown[i]:
                break
    return shown


def _logits(found: Sequence[Mapping[str, Any]] | None) -> list[ShownLogit]:
    return [ShownLogit(one_line(t["token"]), _rounded(t["logit"])) for t in found or []]


def _score(row: Mapping[str, Any]) -> ShownScore:
    known = {f.name: _finite(row.get(f.name)) for f in fields(ShownScore)}
    chance = chance_of(row["scorer"], row["metric"])
    return ShownScore(**known | {"by_chance": chance is not None})


def is_right(row: Mapping[str, Any]) -> bool | None:
    """Whether a row of `predictions.parquet` has the right answer.

    None where there is no answer, or none that is right or wrong: ratings, predicted activations,
    and choosing a label that another feature has as well.
    """
    truth, answered = row["truth"], row["prediction"]
    scorer = SCORERS.get(row["scorer"])  # None: of a package that is not installed here
    has_right_ones = scorer and (scorer.counts is not None or scorer.chance is not None)
    if not has_right_ones or None in (truth, answered) or 0 < answered < 1:
        return None
    return bool(truth == answered)


def _judgment(row: Mapping[str, Any], windows: Mapping[str, ShownWindow]) -> ShownJudgment:
    key = _key(row["window"]["kind"], "score", row["window"]["rank"])
    tokens = row["token_prediction"]
    return ShownJudgment(
        scorer=row["scorer"],
        mode=row["mode"],
        label_of=row["label_of"],
        window=key if key in windows else None,
        stratum=row["stratum"],
        truth=_finite(row["truth"]),
        prediction=_finite(row["prediction"]),
        probability=_finite(row["probability"]),
        right=is_right(row),
        token_prediction=None if tokens is None else [_known(t) for t in tokens],
        marks=row["marks"],
    )


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else _rounded(value)


def _deciles(feature: int, judgments: Iterable[Mapping[str, Any]]) -> list[Decile]:
    """How the feature's own label does on its firings, by strength; missing answers left out."""
    counts: Counter[tuple[str, int]] = Counter()
    found: Counter[tuple[str, int]] = Counter()
    for row in judgments:
        if row["label_of"] != feature or row["stratum"] != FIRES or row["quantile"] is None:
            continue
        if is_right(row) is not None and SCORERS[row["scorer"]].counts is not None:
            tenth = row["scorer"], min(int(10 * row["quantile"]), 9)
            counts[tenth] += 1
            found[tenth] += row["prediction"] == 1.0
    return [Decile(scorer, d, n, found[scorer, d]) for (scorer, d), n in sorted(counts.items())]
