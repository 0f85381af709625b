"""Sparse feature activations of a batch of tokens."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Firings:
    """The active features of a batch of tokens, ordered by token: three tensors [n]."""

    token: Tensor  # int64, row of the encoded batch
    feature: Tensor  # int64
    value: Tensor  # float32, > 0
