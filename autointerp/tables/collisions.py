"""Collisions: how many features share a label, so that it cannot tell them apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Collisions:
    """Of the labeled features of a run; labels are told apart as `folded` has them.

    `shared` is the share of features whose label another one has, `entropy` is H(label) / log₂ n
    over the `labeled` = n features: 1 where every label is of one feature, 0 where all have one
    ("Descriptive collision", arXiv 2605.12874). It is None for fewer than two features.
    """

    labeled: int
    distinct: int
    shared: float
    most_common: str  # as it was written first
    most_common_count: int
    entropy: float | None

    @property
    def mean_reuse(self) -> float:
        """Features a label has on average."""
        return self.labeled / self.distinct


def folded(label: str) -> str:
    """The label without its case and with every run of whitespace as one space."""
    return " ".join(label.casefold().split())


def _codes(labels: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Places of the features that have a label, and the number of each one's label: [labeled].

    What is not text, such as None and NaN, is not a label.
    """
    has = np.array([isinstance(label, str) for label in labels], dtype=bool)
    keys = pa.array([folded(label) for label in labels if isinstance(label, str)], pa.string())
    return np.flatnonzero(has), keys.dictionary_encode().indices.to_numpy()


def shares_label(labels: Sequence[object]) -> pa.Array:
    """How many other features have the same label: int32 [features], null where there is none."""
    places, codes = _codes(labels)
    others = np.zeros(len(labels), dtype=np.int32)
    others[places] = np.bincount(codes)[codes] - 1 if len(codes) else 0
    missing = np.ones(len(labels), dtype=bool)
    missing[places] = False
    return pa.array(others, pa.int32(), mask=missing)


def collisions(labels: Sequence[object]) -> Collisions | None:
    """What the labels of a run's features come to; None where no feature has one."""
    places, codes = _codes(labels)
    if not len(codes):
        return None
    counts = np.bincount(codes)
    n = len(codes)
    share = counts / n
    largest = int(counts.argmax())
    bits = max(0.0, float(-(share * np.log2(share)).sum()))
    return Collisions(
        labeled=n,
        distinct=len(counts),
        shared=float(counts[counts > 1].sum() / n),
        most_common=str(labels[places[int((codes == largest).argmax())]]),
        most_common_count=int(counts[largest]),
        entropy=bits / math.log2(n) if n > 1 else None,
    )
