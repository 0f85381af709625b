"""Activation records on their way to evidence: on disk, to be read again a feature after another.

Files have them in any order, and there may be more than memory holds. Their tokens and activations
go to a scratch file; what is kept of a record in memory is some forty bytes.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

_CELLS_AT_ONCE = 1 << 22  # tokens of a batch, padding included


@dataclass(frozen=True)
class RecordBatch:
    """Some records of consecutive features; arrays [records] and [records, tokens].

    `feature` ascends; `number` counts records as they were read; `text_key` and `split_key` are 63
    bits; `split` is -1 where nobody has said. token_ids are -1 after a record's end.
    """

    feature: np.ndarray
    number: np.ndarray
    text_key: np.ndarray
    split_key: np.ndarray
    split: np.ndarray
    document: np.ndarray  # int64, numbered from 0: records that are split together
    token_ids: np.ndarray  # int32
    activations: np.ndarray  # float32


class RecordSpool:
    """`add` every record, then read `tiles`. Of a feature's records with one text the first counts.

    The files are in a folder that is the caller's to remove.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = folder / "token_ids", folder / "activations"
        self._files = [path.open("wb") for path in self._paths]
        self._feature, self._length, self._split = array("i"), array("i"), array("b")
        self._text_key, self._split_key = array("q"), array("q")

    def __enter__(self) -> "RecordSpool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __len__(self) -> int:
        return len(self._feature)

    def _close(self) -> None:
        for file in self._files:
            file.close()

    def add(
        self,
        feature: int,
        token_ids: np.ndarray,
        activations: np.ndarray,
        text_key: int,
        split_key: int,
        split: int,
    ) -> None:
        """token_ids: int32 [length]; activations: float32 [length]."""
        self._files[0].write(token_ids.tobytes())
        self._files[1].write(activations.tobytes())
        self._feature.append(feature)
        self._length.append(len(token_ids))
        self._text_key.append(text_key)
        self._split_key.append(split_key)
        self._split.append(split)

    def by_feature(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The features that have records, ascending; the numbers of the records that count, by
        feature; and where those of each feature begin: int64 [features], [records],
        [features + 1]."""
        numbers = self._distinct()
        features, counts = np.unique(np.array(self._feature)[numbers], return_counts=True)
        return features.astype(np.int64), numbers, np.concatenate([[0], counts.cumsum()])

    def _distinct(self) -> np.ndarray:
        feature, key = np.array(self._feature), np.array(self._text_key)
        order = np.lexsort((key, feature))  # stable: of equal ones the first that was read leads
        first = np.ones(len(order), dtype=bool)
        first[1:] = np.diff(feature[order]) != 0
        first[1:] |= np.diff(key[order]) != 0
        kept = np.sort(order[first])
        found: np.ndarray = kept[np.argsort(feature[kept], kind="stable")]
        return found

    def batches(self, numbers: np.ndarray, width: int) -> Iterator[RecordBatch]:
        """The records of these numbers, a few at a time, padded to at least `width` tokens."""
        self._close()
        lengths = np.frombuffer(self._length, dtype=np.int32)
        offsets = np.concatenate([[0], lengths.cumsum(dtype=np.int64)])
        token_ids, activations = (
            np.memmap(path, dtype=kind, mode="r")
            for path, kind in zip(self._paths, (np.int32, np.float32), strict=True)
        )
        _, document = np.unique(np.frombuffer(self._split_key, np.int64), return_inverse=True)
        begin = 0
        while begin < len(numbers):
            end = begin + _that_fit(lengths[numbers[begin:]], width)
            part = numbers[begin:end]
            longest = max(int(lengths[part].max()), width)
            place = np.arange(longest)
            there = place < lengths[part, None]
            at = (offsets[part, None] + place)[there]
            ids = np.full(there.shape, -1, dtype=np.int32)
            values = np.zeros(there.shape, dtype=np.float32)
            ids[there], values[there] = token_ids[at], activations[at]
            yield RecordBatch(
                feature=np.frombuffer(self._feature, dtype=np.int32)[part].astype(np.int64),
                number=part,
                text_key=np.frombuffer(self._text_key, dtype=np.int64)[part],
                split_key=np.frombuffer(self._split_key, dtype=np.int64)[part],
                split=np.frombuffer(self._split, dtype=np.int8)[part],
                document=document[part],
                token_ids=ids,
                activations=values,
            )
            begin = end


def _that_fit(lengths: np.ndarray, width: int) -> int:
    """How many records from the first on go into a batch, at least one."""
    few = lengths[: max(1, _CELLS_AT_ONCE // width)]
    padded = np.maximum(np.maximum.accumulate(few), width) * np.arange(1, len(few) + 1)
    return max(1, int((padded <= _CELLS_AT_ONCE).sum()))
