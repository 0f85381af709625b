"""A uniform sample of the corpus's windows, with every feature that fires in each.

One for all features. How often a label is wrong on text of some kind can be weighed by how much of
such text there is: of windows of any kind, and for any feature, the sample knows the share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from autointerp.errors import NotDoneError
from autointerp.evidence.cutting import ContextRows, FoundWindows
from autointerp.evidence.selection import NONE
from autointerp.evidence.window import Window
from autointerp.storage.files import atomic_path
from autointerp.storage.parquet_files import open_parquet, write_parquet
from autointerp.tensors.hashing import SCORE, hash_integers
from autointerp.vocabulary import Vocabulary

_SALT = 0xC02
_BITS = torch.tensor([1 << i for i in range(8)], dtype=torch.uint8)
_ROWS_A_GROUP = 1024
_SCHEMA = pa.schema(
    [
        ("window", pa.int32()),
        ("context", pa.int64()),
        ("start", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("features", pa.list_(pa.int32())),  # all that fire in it, ascending
        ("document", pa.int32()),  # null where unknown
    ]
)


def sample_bytes(windows: int, length: int, encoded: int) -> int:
    """What a sample takes while it is collected."""
    return windows * (4 * 8 + 4 * length + -(-encoded // 8))


class CorpusSample:
    """The `windows` windows of largest hash, one a context, of the contexts that score.

    Every such context is as likely to be in it, so that shares of the sample are shares of the
    corpus; a long document has many of them, and `document` says which belong together.
    """

    def __init__(
        self, windows: int, length: int, encoded: int, seed: int, device: torch.device
    ) -> None:
        self._seed = seed
        self._encoded = encoded
        self._bits = _BITS.to(device)
        self.priority = torch.full((windows,), NONE, dtype=torch.int64, device=device)
        self.context = torch.zeros(windows, dtype=torch.int64, device=device)
        self.start = torch.zeros(windows, dtype=torch.int64, device=device)
        self.document = torch.full((windows,), NONE, dtype=torch.int64, device=device)
        self.token_ids = torch.full((windows, length), -1, dtype=torch.int32, device=device)
        # A bit a feature: uint8 [windows, features / 8].
        self.fires = torch.zeros((windows, -(-encoded // 8)), dtype=torch.uint8, device=device)

    def tables(self) -> dict[str, Tensor]:
        names = ("priority", "context", "start", "document", "token_ids", "fires")
        return {name: getattr(self, name) for name in names}

    def merge(self, tables: Mapping[str, Tensor]) -> None:
        """Take in the tables of a sample of other contexts."""
        together = torch.cat([self.priority, tables["priority"].to(self.priority.device)])
        best = together.topk(len(self.priority)).indices
        for name, own in self.tables().items():
            own.copy_(torch.cat([own, tables[name].to(own.device)])[best])

    def add(self, seen: ContextRows, start: Tensor, every: FoundWindows) -> None:
        """Take in the windows at `start` [contexts] of a batch; `every`: all features' firings."""
        if len(self.priority) == 0:
            return
        priority = hash_integers(self._seed ^ _SALT, seen.index)
        eligible = (seen.split == SCORE) & seen.has_text & (priority > self.priority.amin())
        new = eligible.nonzero().flatten()
        if len(new) == 0:
            return
        # What is in the sample and what is new compete for its places.
        together = torch.cat([self.priority, priority[new]])
        best = together.topk(len(self.priority)).indices
        chosen = best[best >= len(self.priority)] - len(self.priority)
        free = torch.ones_like(self.priority, dtype=torch.bool)
        free[best[best < len(self.priority)]] = False
        place, new = free.nonzero().flatten(), new[chosen]
        self.priority[place] = priority[new]
        self.context[place] = seen.index[new]
        self.start[place] = start[new]
        self.document[place] = seen.document_at(new, start[new])
        at = start[new].unsqueeze(1) + torch.arange(seen.window, device=start.device)
        self.token_ids[place] = seen.token_ids[new].gather(1, at)
        self.fires[place] = self._firing(seen, start, new, every)

    def _firing(self, seen: ContextRows, start: Tensor, new: Tensor, every: FoundWindows) -> Tensor:
        """Which features fire in the windows of the contexts `new`: uint8 [new, features / 8]."""
        number = torch.full((len(seen.index),), NONE, dtype=torch.int64, device=start.device)
        number[new] = torch.arange(len(new), device=start.device)
        offset = every.position - start[every.context]
        inside = (offset >= 0) & (offset < seen.window) & (number[every.context] != NONE)
        if every.is_shown is not None:
            inside &= every.is_shown
        hit = inside.nonzero().flatten()
        bits = 8 * self.fires.shape[1]
        fires = torch.zeros(len(new) * bits, dtype=torch.uint8, device=start.device)
        fires[number[every.context[hit]] * bits + every.row[hit]] = 1
        packed: Tensor = (fires.view(len(new), -1, 8) * self._bits).sum(2, dtype=torch.uint8)
        return packed


@dataclass(frozen=True)
class Sampled:
    """What one pass sampled, sorted by context; `window`, `feature`: [firings] pairs."""

    context: np.ndarray  # int64 [windows]
    start: np.ndarray  # int64 [windows]
    document: np.ndarray  # int64 [windows], -1 where unknown
    token_ids: np.ndarray  # int32 [windows, length], -1 where there is no text
    window: np.ndarray
    feature: np.ndarray


def sampled(sample: CorpusSample, encoded: Tensor) -> Sampled:
    """encoded: int64 [encoded], the features that the sample's firings number."""
    kept = (sample.priority != NONE).nonzero().flatten()
    kept = kept[sample.context[kept].argsort()]
    fires = np.unpackbits(sample.fires[kept].cpu().numpy(), axis=1, bitorder="little")
    window, row = np.nonzero(fires[:, : len(encoded)])
    return Sampled(
        sample.context[kept].cpu().numpy(),
        sample.start[kept].cpu().numpy(),
        sample.document[kept].cpu().numpy(),
        sample.token_ids[kept].cpu().numpy(),
        window.astype(np.int32),
        encoded.cpu().numpy()[row].astype(np.int32),
    )


def write_corpus(passes: list[Sampled], vocabulary: Vocabulary, path: Path) -> None:
    """Write `corpus.parquet`: passes saw the same windows, each for features of its own."""
    first = passes[0]
    window = np.concatenate([p.window for p in passes]).astype(np.int64)
    feature = np.concatenate([p.feature for p in passes]).astype(np.int64)
    # Features that several passes encoded come but once.
    width = int(feature.max(initial=0)) + 1
    pairs = np.unique(window * width + feature)
    firing = np.bincount(pairs // width, minlength=len(first.context))
    valid = first.token_ids >= 0
    lengths, ids = valid.sum(1), first.token_ids[valid]
    columns = [
        pa.array(np.arange(len(first.context)), pa.int32()),
        pa.array(first.context, pa.int64()),
        pa.array(first.start + valid.argmax(1), pa.int32()),
        _lists(ids, lengths),
        vocabulary.texts(ids, lengths),
        _lists((pairs % width).astype(np.int32), firing),
        pa.array(first.document, pa.int32(), mask=first.document == NONE),
    ]
    with atomic_path(path) as temporary:
        write_parquet(pa.table(columns, schema=_SCHEMA), temporary, _ROWS_A_GROUP)


def write_no_corpus(path: Path) -> None:
    """Write a `corpus.parquet` without windows, where nothing is known of the corpus."""
    with atomic_path(path) as temporary:
        write_parquet(_SCHEMA.empty_table(), temporary, _ROWS_A_GROUP)


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.int32()))


@dataclass(frozen=True)
class _Index:
    """For each key the windows that have it: `windows[begins[key]:begins[key + 1]]`."""

    begins: np.ndarray
    windows: np.ndarray

    def of(self, key: int) -> np.ndarray:
        if not 0 <= key < len(self.begins) - 1:
            return self.windows[:0]
        return self.windows[self.begins[key] : self.begins[key + 1]]

    @classmethod
    def made(cls, key: np.ndarray, window: np.ndarray) -> "_Index":
        order = np.argsort(key, kind="stable")
        counts = np.bincount(key, minlength=int(key.max(initial=-1)) + 1)
        return cls(np.concatenate([[0], counts.cumsum()]), window[order])


class Corpus:
    """The sampled windows of a run, in memory: which features fire in them, which tokens occur."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        if "document" not in table.column_names:  # earlier versions did not write it
            self._table = self._table.append_column("document", pa.nulls(len(table), pa.int32()))
        self._tokens = _column(self._table, "token_ids")
        self._features = _column(self._table, "features")

    @staticmethod
    def read(path: Path) -> "Corpus":
        """Raises AutointerpError where there is none."""
        if not path.is_file():
            raise NotDoneError(
                f"no sample of the corpus: {path} is missing; run `autointerp collect` first"
            )
        return Corpus(open_parquet(path).read())

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def _by_feature(self) -> _Index:
        values, offsets = self._features
        return _Index.made(values, np.repeat(np.arange(len(self)), np.diff(offsets)))

    @cached_property
    def _by_token(self) -> _Index:
        values, offsets = self._tokens
        windows = np.repeat(np.arange(len(self)), np.diff(offsets))
        # A token may stand in a window several times.
        pairs = np.unique(values.astype(np.int64) * max(len(self), 1) + windows)
        return _Index.made(*np.divmod(pairs, max(len(self), 1)))

    def firing(self, feature: int) -> np.ndarray:
        """The windows in which the feature fires: int64 [windows]."""
        return self._by_feature.of(feature)

    def counts(self, token_ids: np.ndarray) -> np.ndarray:
        """How often each token occurs in the sample: int64, of the tokens' shape."""
        every = np.diff(self._by_token.begins)
        known = (token_ids >= 0) & (token_ids < len(every))
        return np.where(known, every[np.where(known, token_ids, 0)] if len(every) else 0, 0)

    def having(self, token_id: int) -> np.ndarray:
        """The windows in which the token occurs: int64 [windows]."""
        return self._by_token.of(token_id)

    def token_ids(self, number: int) -> np.ndarray:
        """Of a window of the sample: int32 [length]."""
        values, offsets = self._tokens
        return values[offsets[number] : offsets[number + 1]]

    def texts(self) -> list[str]:
        """Of all windows."""
        texts: list[str] = self._table["text"].to_pylist()
        return texts

    def silent_window(self, number: int) -> Window:
        """A window of the sample, for a feature that is inactive in it."""
        ids = self.token_ids(number)
        return Window(
            kind="corpus",
            split="score",
            rank=number,
            context=self._table["context"][number].as_py(),
            start=self._table["start"][number].as_py(),
            peak=0,
            token_ids=ids,
            activations=np.zeros(len(ids), dtype=np.float32),
            text=self._table["text"][number].as_py(),
            document=self._table["document"][number].as_py(),
        )


class OwnSilentWindows(Corpus):
    """Non-activating windows of one feature in the corpus's place, where there is no corpus."""

    def __init__(self, windows: Sequence[Window]) -> None:
        lengths = np.array([len(w.token_ids) for w in windows])
        none = np.zeros(0, dtype=np.int32)
        ids = np.concatenate([none, *(w.token_ids for w in windows)])
        features = _lists(none, np.zeros(len(windows), dtype=np.int64))
        table = pa.table({"token_ids": _lists(ids, lengths), "features": features})
        super().__init__(table)
        self._windows = windows

    def silent_window(self, number: int) -> Window:
        return self._windows[number]


def _column(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column of lists, and where each list begins: [rows + 1]."""
    if len(table) == 0:
        return np.zeros(0, np.int32), np.zeros(1, np.int32)
    whole = table[name].chunk(0)
    return whole.values.to_numpy(), whole.offsets.to_numpy()
