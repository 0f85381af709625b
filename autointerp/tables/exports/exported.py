"""What every export reads: a run's tables side by side, a few features at a time.

Memory holds one chunk of features and one row group of each table, however large the run is.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.errors import InputError, NotDoneError
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore, collected_features, histogram_edges_of
from autointerp.evidence.window import Window
from autointerp.plain_text import listed
from autointerp.progress import say, track
from autointerp.runs.directory import Run
from autointerp.runs.feature_selection import select_among
from autointerp.storage.columns import leaf_of, metadata_of
from autointerp.tables.migrate import current, open_table
from autointerp.vocabulary import Vocabulary

_CHUNK = 256  # features in memory at a time
_MAX_NAME = 80


def safe_name(text: str) -> str:
    """The text as a part of a path or an identifier: letters, digits, `.`, `_` and `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:_MAX_NAME]
    return name.strip(".-") or "unnamed"


@dataclass(frozen=True)
class Naming:
    """What the other tools call the run's subject model and coder.

    `source` is `<layer>-<set>`, as Neuronpedia writes it; `hookpoint` is Delphi's name.
    """

    model: str
    source: str
    hookpoint: str
    creator: str

    @property
    def layer(self) -> int:
        return int(self.source.partition("-")[0])

    @property
    def source_set(self) -> str:
        return self.source.partition("-")[2]


def naming(run: Run, model: str | None, source: str | None, creator: str) -> Naming:
    """The names given, or what follows from the run's record. Raises AutointerpError.

    The layer is the first number in the hook's name; where there is none it has to be given.
    """
    settings = run.settings()
    collected = run.stages().collect
    hook = (collected.hook if collected else None) or settings.text("hook")
    coder = _coder(run)
    if source is None:
        layer = re.search(r"\d+", hook)
        if layer is None:
            raise InputError(
                f"{run.path} does not record which layer the SAE reads: pass the "
                "layer and the SAE's name with --source-id LAYER-NAME, such as "
                "6-res-jb"
            )
        source = f"{int(layer[0])}-{safe_name(coder)}".lower()
    if not re.fullmatch(r"\d{1,4}-[A-Za-z0-9._-]{1,100}", source):
        raise InputError(f"source id {source!r} is not of the form LAYER-NAME, such as 6-res-jb")
    subject = (settings.text("subject") or coder).rstrip("/")
    return Naming(
        model=safe_name(model or subject.rpartition("/")[2]).lower(),
        source=source,
        hookpoint=safe_name(hook or f"layers.{int(source.partition('-')[0])}"),
        creator=safe_name(creator),
    )


def _coder(run: Run) -> str:
    names = open_table(run.features).read(columns=["sae"])["sae"]
    return str(names[0]) if len(names) else ""


class ByFeature:
    """A table with a column `feature`, read a few features at a time.

    It need not be sorted: the row groups that may hold the features are known by their bounds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_table(path)
        self._held: tuple[list[int], pa.Table] = ([], self._file.schema_arrow.empty_table())
        self._column = leaf_of(self._file, "feature")

    @cached_property
    def _bounds(self) -> np.ndarray:
        """The least and the greatest feature of each row group: int64 [groups, 2]."""
        metadata = self._file.metadata
        found = [
            metadata.row_group(g).column(self._column).statistics
            for g in range(metadata.num_row_groups)
        ]
        return np.array([(s.min, s.max) for s in found], dtype=np.int64).reshape(-1, 2)

    def rows(self, features: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        """feature → its rows, for ascending features."""
        bounds = self._bounds
        wanted = (bounds[:, 1] >= features[0]) & (bounds[:, 0] <= features[-1])
        groups = np.flatnonzero(wanted).tolist()
        if groups != self._held[0]:
            self._held = (groups, current(self._file.read_row_groups(groups), self._path))
        table = self._held[1]
        chosen = table.filter(pc.is_in(table["feature"], pa.array(features, pa.int32())))
        found: dict[int, list[dict[str, Any]]] = {}
        for row in chosen.to_pylist():
            found.setdefault(row["feature"], []).append(row)
        return found


@dataclass
class ExportedFeature:
    """All that a run has about one feature; empty where an export did not ask for it.

    `statistics` is its row of `features.parquet`, `label` that of `labels.parquet`.
    """

    feature: int
    statistics: dict[str, Any]
    label: dict[str, Any]
    windows: list[Window] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str | None:
        """The label itself, where there is one."""
        text: str | None = self.label.get("label")
        return text


class Source:
    """A run as exports read it. `left_out` counts, by reason, what a format cannot hold."""

    def __init__(
        self,
        run: Run,
        features: str,
        model: str | None = None,
        source_id: str | None = None,
        creator: str = "autointerp",
    ) -> None:
        self.run = run
        self.features = selected(run, features)
        self.left_out: Counter[str] = Counter()
        self._given = (model, source_id, creator)

    @cached_property
    def names(self) -> Naming:
        """Raises AutointerpError where they are neither given nor recorded."""
        return naming(self.run, *self._given)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.run.vocabulary)

    @cached_property
    def corpus(self) -> Corpus:
        return Corpus.read(self.run.corpus)

    @cached_property
    def tokens(self) -> int:
        """How many tokens the evidence comes from; 0 where it is not of a corpus."""
        return metadata_of(open_table(self.run.features), "tokens", int, self.run.features)

    @cached_property
    def histogram_edges(self) -> list[float]:
        return histogram_edges_of(self.run.features)

    @cached_property
    def made_at(self) -> str:
        """When the run last finished a stage: the same for every export of it."""
        stamp = max((stage.finished_at for _, stage in self.run.stages().done()), default="")
        return stamp.replace("+00:00", ".000Z") or "1970-01-01T00:00:00.000Z"

    def records(
        self, *, windows: bool = False, scores: bool = False, predictions: bool = False
    ) -> Iterator[ExportedFeature]:
        """One record a selected feature, ascending."""
        run = self.run
        store = EvidenceStore(run.windows, run.features) if windows else None
        statistics = ByFeature(run.features)
        labels = ByFeature(run.labels) if run.labels.is_file() else None
        scored = ByFeature(run.scores) if scores and run.scores.is_file() else None
        judged = ByFeature(run.predictions) if predictions and run.predictions.is_file() else None
        with track("export", len(self.features), "features") as progress:
            for begin in range(0, len(self.features), _CHUNK):
                part = self.features[begin : begin + _CHUNK]
                of_features = statistics.rows(part)
                of_labels = labels.rows(part) if labels else {}
                of_scores = scored.rows(part) if scored else {}
                of_judged = judged.rows(part) if judged else {}
                kept = store.windows(part) if store else ((f, []) for f in part)
                for feature, found in kept:
                    yield ExportedFeature(
                        feature,
                        of_features[feature][0],
                        of_labels.get(feature, [{}])[0],
                        self._finite(found),
                        of_scores.get(feature, []),
                        # Judgments of another feature's label are the null.
                        [p for p in of_judged.get(feature, []) if p["label_of"] == feature],
                    )
                    progress.advance()

    def _finite(self, windows: list[Window]) -> list[Window]:
        kept = [w for w in windows if len(w.activations) and np.isfinite(w.activations).all()]
        self.left_out["windows with an activation that is not a number"] += len(windows) - len(kept)
        return kept

    def judged_window(self, record: ExportedFeature, prediction: dict[str, Any]) -> Window | None:
        """The window that a prediction is about; None where it is not among the evidence."""
        kind, rank = prediction["window"]["kind"], prediction["window"]["rank"]
        if kind == "corpus":
            return self.corpus.silent_window(rank)
        for window in record.windows:
            if (window.split, window.kind, window.rank) == ("score", kind, rank):
                return window
        self.left_out["judgments of windows that are not in the evidence"] += 1
        return None


def selected(run: Run, text: str) -> list[int]:
    """The collected features that `text` selects, ascending; how many it lacks is said.

    Raises AutointerpError where it selects none.
    """
    for path in (run.features, run.windows, run.vocabulary):
        if not path.is_file():
            raise NotDoneError(f"no evidence: {path} is missing; run `autointerp collect` first")
    collected = sorted(collected_features(run.features))
    seed = run.settings().number("seed")
    chosen, missing = select_among(text, collected, seed)
    if not chosen:
        raise InputError(
            f"features {text!r}: none of them was collected in {run.path}, which has "
            f"{len(collected):,} features: {listed(collected)}"
        )
    if missing:
        say(f"skipping {missing:,} of the features {text}: not collected in {run.path}")
    return chosen


def numbers(values: Iterable[float] | np.ndarray) -> list[float]:
    """float32 values in as few digits as read back the same."""
    array = np.asarray(values, dtype=np.float32)
    found: list[float] = array.astype("U").astype(np.float64).tolist()
    return found


def number(value: float | None) -> float | None:
    """A float32 in as few digits as read back the same; None where it is missing or not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(str(np.float32(value)))
