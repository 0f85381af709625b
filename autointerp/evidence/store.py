"""Evidence on disk: `windows.parquet` and `features.parquet`, read a feature at a time.

Both are sorted by feature; windows come in row groups of a few features, so that one feature is
one cheap read.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from autointerp.errors import AutointerpError, InputError, NotDoneError
from autointerp.evidence.coactive import coactive_features
from autointerp.evidence.directions import Directions, Ranked
from autointerp.evidence.evidence_schema import FEATURES_SCHEMA, WINDOWS_SCHEMA
from autointerp.evidence.selection import NONE, Selection
from autointerp.evidence.statistics import Statistics, histogram_edges
from autointerp.evidence.window import FeatureEvidence, TokenCount, Window
from autointerp.plain_text import listed
from autointerp.progress import track
from autointerp.storage.columns import checked, conform, leaf_of, metadata_of
from autointerp.storage.files import atomic_path
from autointerp.storage.parquet_files import (
    WRITTEN,
    ParquetFile,
    open_parquet,
    read_parquet,
    write_parquet,
)
from autointerp.tensors.prefetch import prefetched
from autointerp.vocabulary import Vocabulary

# A row group is what reading one feature decompresses; fewer groups make a shorter footer.
_FEATURES_A_GROUP = 32
_FEATURE_ROWS_A_GROUP = 1024
_FEW = 64  # features whose statistics are looked up rather than all read
_TOP_TOKENS = 10
_COACTIVE = 10  # features that fire on the same tokens
_DENSE = 0.1  # share of tokens
# What is known of every feature that was collected; of one whose records were imported all but how
# dense it is.
KNOWN_OF_ALL = ("n_active", "density", "mean_activation", "max_activation", "top_tokens")
_TOKENS_OF_WINDOWS = ("token_ids", "activations")
_UNKNOWN_OF_RECORDS = ("density",)
# In the metadata of `features.parquet`: how many records were imported, and what all of them are
# for, where they are for one thing.
RECORDS, ONLY = b"records", b"only_split"
_STATISTICS = FEATURES_SCHEMA.remove(FEATURES_SCHEMA.get_field_index("histogram"))


class Kept(Protocol):
    """What was kept of a few features: a collector, or what takes its place."""

    features: Tensor
    selections: list[Selection]
    statistics: Statistics

    def window_density(self) -> Tensor: ...


WriteWindows = Callable[[Kept], int]  # writes what a collector kept, returns the windows


def _lists(values: np.ndarray, lengths: np.ndarray, kind: pa.DataType) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, kind))


def _group_table(collector: Kept, rows: range, coder: str, vocabulary: Vocabulary) -> pa.Table:
    """The windows of consecutive rows of the collector, sorted by feature."""
    parts: dict[str, list[np.ndarray]] = {
        name: []
        for name in ("row", "kind", "rank", "context", "start", "document", *_TOKENS_OF_WINDOWS)
    }

    def cut(selection: Selection, name: str) -> np.ndarray:
        tensor: Tensor = getattr(selection, name)[rows.start : rows.stop]
        return tensor.cpu().numpy()

    for number, selection in enumerate(collector.selections):
        kept = cut(selection, "priority") != NONE
        row, _ = np.nonzero(kept)
        parts["row"].append(row)
        parts["kind"].append(np.full(len(row), number))
        parts["rank"].append((kept.cumsum(1) - 1)[kept])
        for name in ("context", "start", "document", *_TOKENS_OF_WINDOWS):
            parts[name].append(cut(selection, name)[kept])
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    order = np.lexsort((joined["rank"], joined["kind"], joined["row"]))
    joined = {name: array[order] for name, array in joined.items()}
    valid = joined["token_ids"] >= 0
    lengths = valid.sum(1)
    # Short texts that stand at the end of their context leave padding before them.
    first = valid.argmax(1)
    peak = joined["activations"].argmax(1)
    valid_before = valid.cumsum(1) - 1
    kinds = np.array([s.spec.kind for s in collector.selections])
    splits = np.array([s.spec.split for s in collector.selections])
    features = collector.features[rows.start : rows.stop].cpu().numpy()
    columns = [
        pa.array([coder] * len(order), pa.string()),
        pa.array(features[joined["row"]], pa.int32()),
        pa.array(kinds[joined["kind"]], pa.string()),
        pa.array(splits[joined["kind"]], pa.string()),
        pa.array(joined["rank"], pa.int32()),
        pa.array(joined["context"], pa.int64()),
        pa.array(joined["start"] + first, pa.int32()),
        pa.array(np.maximum(valid_before[np.arange(len(peak)), peak], 0), pa.int16()),
        _lists(joined["token_ids"][valid], lengths, pa.int32()),
        _lists(joined["activations"][valid], lengths, pa.float32()),
        vocabulary.texts(joined["token_ids"][valid], lengths),
        _quantiles_of_peaks(collector, rows, joined["row"], joined["activations"].max(1)),
        pa.array(joined["document"], pa.int32(), mask=joined["document"] == NONE),
    ]
    return pa.table(columns, schema=WINDOWS_SCHEMA)


def _quantiles_of_peaks(
    collector: Kept, rows: range, row: np.ndarray, peak: np.ndarray
) -> pa.Array:
    """row: [windows], counted from the first of `rows`; peak: [windows], 0 where silent."""
    known, values = collector.statistics.sampled(rows)
    # All rows are searched at once: a value's place is its row, and behind the point its size.
    unit = 2 * np.maximum(values.max(1, where=known, initial=0), 1e-30).astype(np.float64)
    sizes = np.where(known, values / unit[:, None], 0.9) + np.arange(len(values))[:, None]
    wanted = row + np.minimum(peak / unit[row], 0.6)
    weaker = np.searchsorted(np.sort(sizes, axis=None), wanted) - row * values.shape[1]
    share = weaker / np.maximum(known.sum(1)[row], 1)
    return pa.array(share, pa.float32(), mask=peak == 0)


@contextmanager
def windows_file(coder: str, vocabulary: Vocabulary, path: Path) -> Iterator[WriteWindows]:
    """Write `windows.parquet` a collector after another, by ascending features."""
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(
            temporary,
            WINDOWS_SCHEMA,
            sorting_columns=[pq.SortingColumn(1)],
            **WRITTEN,
        ) as writer,
    ):

        def write(collector: Kept) -> int:
            total, features = 0, len(collector.features)
            begins = range(0, features, _FEATURES_A_GROUP)
            groups = (range(b, min(b + _FEATURES_A_GROUP, features)) for b in begins)
            tables = (_group_table(collector, rows, coder, vocabulary) for rows in groups)
            for table in prefetched(tables):  # one is made while another is written
                total += len(table)
                if len(table) > 0:
                    writer.write_table(table, row_group_size=len(table))
            return total

        yield write


def _ranked(
    ranked: Ranked | None, rows: int, kind: pa.DataType, show: Callable[[int], Any]
) -> pa.Array:
    """Lists of (item as shown, score), null where nothing is known."""
    if ranked is None:
        return pa.nulls(rows, kind)
    name, score = (kind.value_type.field(i).name for i in (0, 1))
    return pa.array(
        [
            [{name: show(i), score: s} for i, s in zip(items, scores, strict=True)]
            for items, scores in zip(ranked.item.tolist(), ranked.score.tolist(), strict=True)
        ],
        kind,
    )


def features_table(
    collector: Kept,
    coder: str,
    vocabulary: Vocabulary,
    directions: Directions = Directions(),  # noqa: B008, it is frozen
) -> pa.Table:
    """The rows of `features.parquet` of one collector's features."""
    statistics = collector.statistics
    n_active = statistics.n_active.cpu().numpy()
    top_tokens = [
        [
            {"token": vocabulary.token_name(token), "count": count, "mean_activation": mean}
            for token, count, mean in tokens
        ]
        for tokens in statistics.top_tokens(_TOP_TOKENS)
    ]
    columns = [
        pa.array([coder] * len(n_active), pa.string()),
        pa.array(collector.features.cpu().numpy(), pa.int32()),
        pa.array(n_active, pa.int64()),
        pa.array(statistics.density().cpu().numpy(), pa.float32()),
        pa.array(collector.window_density().cpu().numpy(), pa.float32()),
        pa.array(statistics.mean().cpu().numpy(), pa.float32()),
        pa.array(statistics.maximum.cpu().numpy(), pa.float32()),
        pa.array(statistics.histogram.cpu().tolist(), pa.list_(pa.int64())),
        pa.array(top_tokens, FEATURES_SCHEMA.field("top_tokens").type),
        *(
            _ranked(ranked, len(n_active), FEATURES_SCHEMA.field(name).type, show)
            for name, ranked, show in (
                ("similar", directions.similar, int),
                ("raised_tokens", directions.raised, vocabulary.token_name),
                ("lowered_tokens", directions.lowered, vocabulary.token_name),
            )
        ),
    ]
    return pa.table(columns, schema=pa.schema(list(FEATURES_SCHEMA)[: len(columns)]))


def _coactive(tables: Sequence[pa.Table], sketches: Sequence[Tensor]) -> pa.Array:
    feature = np.concatenate([t["feature"].to_numpy() for t in tables])
    n_active = np.concatenate([t["n_active"].to_numpy() for t in tables])
    together = torch.cat(list(sketches))
    parts = []
    with track("collect: overlaps", len(feature), "features") as progress:
        on_device = torch.from_numpy(n_active).to(together.device)
        for part in coactive_features(together, on_device, _COACTIVE):
            parts.append((part.item.cpu().numpy(), part.score.cpu().numpy()))
            progress.advance(len(part.item))
    items, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    items = feature[items]
    kept = scores > 0
    kind = FEATURES_SCHEMA.field("coactive").type.value_type
    values = pa.StructArray.from_arrays(
        [pa.array(items[kept]), pa.array(scores[kept])], fields=list(kind)
    )
    offsets = np.concatenate([[0], kept.sum(1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def write_features(
    tables: Sequence[pa.Table],
    counters: Sequence[Mapping[str, Any]],
    sketches: Sequence[Tensor],
    path: Path,
) -> None:
    """Write `features.parquet`; corpus-wide numbers go into its metadata.

    `counters` and `sketches` are those of the collectors' statistics, which saw the
    same tokens, each for features of its own.
    """
    first = counters[0]
    metadata = {
        "histogram_edges": json.dumps(histogram_edges()),
        "tokens": str(first["tokens"]),
        "mean_l0": str(sum(c["firings"] for c in counters) / max(first["tokens"], 1)),
        "masked": json.dumps(first["masked"]),
    }
    if len(counters) == 1:  # of a part of the features there is no distribution of the whole
        metadata["l0_quantiles"] = json.dumps(_quantiles(np.array(first["l0_counts"])))
    table = pa.concat_tables(tables).append_column(
        FEATURES_SCHEMA.field("coactive"), _coactive(tables, sketches)
    )
    _write_features(table, _encoded(metadata), path)


def write_record_features(
    tables: Sequence[pa.Table],
    densities: Mapping[int, float],
    records: int,
    only: str | None,
    path: Path,
) -> None:
    """Write the `features.parquet` of imported records.

    Which share of tokens a feature fires on is known where `densities` has it, of windows never;
    nor is it known which features fire together. only: the split of all records, where it is one.
    """
    table = pa.concat_tables(tables)
    density = [densities.get(feature) for feature in table["feature"].to_pylist()]
    for name, values in (("density", density), ("window_density", [None] * len(table))):
        field = FEATURES_SCHEMA.field(name)
        place = table.schema.get_field_index(name)
        table = table.set_column(place, field, pa.array(values, field.type))
    coactive = FEATURES_SCHEMA.field("coactive")
    table = table.append_column(coactive, pa.nulls(len(table), coactive.type))
    metadata = {b"histogram_edges": json.dumps(histogram_edges()).encode()}
    metadata |= {b"tokens": b"0", RECORDS: str(records).encode()}  # none of a corpus
    _write_features(table, metadata | ({} if only is None else {ONLY: only.encode()}), path)


def _write_features(table: pa.Table, metadata: Mapping[bytes, bytes], path: Path) -> None:
    table = table.replace_schema_metadata({**FEATURES_SCHEMA.metadata, **metadata})
    with atomic_path(path) as temporary:
        write_parquet(table, temporary, _FEATURE_ROWS_A_GROUP)


def _encoded(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in metadata.items()}


def _quantiles(counts: np.ndarray) -> dict[str, int]:
    """The 5 %, 50 % and 95 % quantiles of what `counts` counts: counts[i] times i."""
    below = counts.cumsum()
    shares = {"p5": 0.05, "median": 0.5, "p95": 0.95}
    return {n: int(np.searchsorted(below, share * below[-1])) for n, share in shares.items()}


class EvidenceStore:
    """Reads a run's evidence; nothing but the statistics stays in memory."""

    def __init__(self, windows: Path, features: Path) -> None:
        for path in (windows, features):
            if not path.is_file():
                raise NotDoneError(
                    f"no evidence: {path} is missing; run `autointerp collect` first"
                )
        self._windows = checked(open_parquet(windows), WINDOWS_SCHEMA, windows, gaps=False)
        self._column = leaf_of(self._windows, "feature")
        self._path = windows
        self._features = features

    @cached_property
    def statistics(self) -> dict[int, dict[str, Any]]:
        """Of every feature, without its histogram."""
        return read_statistics(self._features)

    @cached_property
    def label_only(self) -> bool:
        """Whether no window was kept for scoring, by choice."""
        return _metadata(_open_features(self._features)).get(ONLY) == b"label"

    @property
    def features(self) -> list[int]:
        return sorted(collected_features(self._features))

    def _bounds(self, group: int) -> tuple[int, int]:
        """The first and the last feature of a row group."""
        found = self._windows.metadata.row_group(group).column(self._column).statistics
        if found is None or not found.has_min_max:
            raise InputError(
                f"{self._path} has no index of its features: run `autointerp collect` again"
            )
        return found.min, found.max

    def read(self, features: Sequence[int]) -> Iterator[FeatureEvidence]:
        """The evidence of the features, ascending; features without windows included."""
        wanted = sorted(features)
        statistics = (
            read_statistics(self._features, wanted) if len(wanted) <= _FEW else self.statistics
        )
        missing = [f for f in wanted if f not in statistics]
        if missing:
            raise self._not_collected(missing[0])
        for feature, windows in self.windows(wanted):
            yield self._evidence(statistics[feature], windows)

    def windows(self, features: Sequence[int]) -> Iterator[tuple[int, list[Window]]]:
        """Of ascending features each one's windows; nothing else is read."""
        read = -1  # the last group that was read
        held = WINDOWS_SCHEMA.empty_table()
        for feature in features:
            group = self._group_of(feature)
            if group is not None and group != read:
                held, read = self._read_group(group), group
            yield feature, _windows_of(held, feature)

    def window_table(self, feature: int) -> pa.Table:
        """The rows of `windows.parquet` of one feature.

        Raises AutointerpError where it was not collected.
        """
        group = self._group_of(feature)
        held = WINDOWS_SCHEMA.empty_table() if group is None else self._read_group(group)
        rows = _rows_of(held, feature)
        found = held.slice(rows.start, len(rows))
        if len(found) == 0 and feature not in collected_features(self._features):
            raise self._not_collected(feature)
        return found

    def _group_of(self, feature: int) -> int | None:
        """The row group that may have its windows."""
        groups = range(self._windows.metadata.num_row_groups)
        group = bisect_left(groups, feature, key=lambda g: self._bounds(g)[1])
        return group if group in groups and self._bounds(group)[0] <= feature else None

    def _read_group(self, group: int) -> pa.Table:
        return conform(self._windows.read_row_group(group).combine_chunks(), WINDOWS_SCHEMA)

    def _not_collected(self, feature: int) -> AutointerpError:
        features = self.features
        run = self._features.parent
        return InputError(
            f"feature {feature} was not collected in {run}, which has "
            f"{len(features):,} features: {listed(features)}"
        )

    def _evidence(self, row: dict[str, Any], windows: list[Window]) -> FeatureEvidence:
        return FeatureEvidence(
            feature=row["feature"],
            n_active=row["n_active"],
            density=_or_nan(row["density"]),
            window_density=_or_nan(row["window_density"]),
            label_only=self.label_only,
            mean_activation=row["mean_activation"],
            max_activation=row["max_activation"],
            top_tokens=[TokenCount(**t) for t in row["top_tokens"]],
            similar=[(s["feature"], s["cosine"]) for s in row["similar"] or []],
            coactive=[(c["feature"], c["jaccard"]) for c in row["coactive"] or []],
            raised_tokens=[t["token"] for t in row["raised_tokens"] or []],
            lowered_tokens=[t["token"] for t in row["lowered_tokens"] or []],
            windows=windows,
        )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _rows_of(table: pa.Table, feature: int) -> range:
    """The places of one feature's rows in a table that is sorted by feature."""
    return range(*np.searchsorted(table["feature"].to_numpy(), [feature, feature + 1]).tolist())


def _windows_of(table: pa.Table, feature: int) -> list[Window]:
    """The windows of one feature of a table that is sorted by feature."""
    found = _rows_of(table, feature)
    begin, end = found.start, found.stop
    rows = table.slice(begin, end - begin)
    # In the order of the fields of a window: there are millions of them to make.
    columns = [
        *(rows[name].to_pylist() for name in ("kind", "split")),
        *(rows[name].to_numpy().tolist() for name in ("rank", "context", "start", "peak")),
        *(_arrays(table[name], begin, end) for name in _TOKENS_OF_WINDOWS),
        *(rows[name].to_pylist() for name in ("text", "quantile", "document")),
    ]
    return list(map(Window, *columns))


def _arrays(column: pa.ChunkedArray, begin: int, end: int) -> list[np.ndarray]:
    """The lists of some rows as arrays, without a copy."""
    if begin == end:
        return []
    whole = column.chunk(0)
    values, offsets = whole.values.to_numpy(), whole.offsets.to_numpy()[begin : end + 1]
    return [values[a:b] for a, b in pairwise(offsets)]


def read_statistics(path: Path, features: Sequence[int] | None = None) -> dict[int, dict[str, Any]]:
    """Rows of `features.parquet` by feature, of all or of some, without their histograms."""
    chosen = None if features is None else [("feature", "in", list(features))]
    file = _open_features(path)
    columns = file.stored([n for n in _STATISTICS.names if n in file.schema_arrow.names])
    table = conform(read_parquet(path, columns=columns, filters=chosen), _STATISTICS)
    for name in known_of_all(path):
        if table[name].null_count:
            raise InputError(f"{path}: column {name} has missing values")
    return {row["feature"]: row for row in table.to_pylist()}


def known_of_all(features: Path) -> list[str]:
    """The columns of `features.parquet` that have a value for every feature."""
    imported = RECORDS in _metadata(_open_features(features))
    return [n for n in KNOWN_OF_ALL if not (imported and n in _UNKNOWN_OF_RECORDS)]


def _metadata(file: ParquetFile) -> Mapping[bytes, bytes]:
    return file.schema_arrow.metadata or {}


def collected_features(features: Path) -> set[int]:
    """The features that have a row in `features.parquet`."""
    return set(_open_features(features).read(columns=["feature"])["feature"].to_pylist())


def histogram_edges_of(features: Path) -> list[float]:
    """The edges of the histograms in `features.parquet`. Raises AutointerpError."""
    return metadata_of(_open_features(features), "histogram_edges", list[float], features)


def _open_features(features: Path) -> ParquetFile:
    return checked(open_parquet(features), FEATURES_SCHEMA, features)


def corpus_summary(features: Path) -> dict[str, Any]:
    """Corpus-wide figures of `features.parquet`: tokens, L0, dead and dense features, masks.

    Features that fire on over a tenth of all tokens are dense.
    """
    table = read_parquet(features, columns=["n_active", "density"])
    metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    dead = pc.sum(pc.equal(table["n_active"], 0)).as_py() or 0
    return {
        "tokens": int(metadata["tokens"]),
        "mean_l0": float(metadata["mean_l0"]),
        "features": len(table),
        "dead": dead,
        "dense": pc.sum(pc.greater(table["density"], _DENSE)).as_py() or 0,
        "l0_quantiles": json.loads(metadata.get("l0_quantiles", "null")),
        "masked": json.loads(metadata["masked"]),
    }
