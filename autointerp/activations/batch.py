"""Token ids and activations of whole contexts, and which tokens may be a window's centre."""

from dataclasses import dataclass

import torch
from torch import Tensor

VALID, SPECIAL, OUTLIER = 1, 2, 4  # bits of a cache's token mask


@dataclass(frozen=True)
class ActivationBatch:
    """`first_context` is the index in the cache of the first row."""

    first_context: int
    token_ids: Tensor  # int32 [contexts, length]
    mask: Tensor  # uint8 [contexts, length], bits VALID, SPECIAL, OUTLIER
    activations: Tensor  # [contexts, length, d_in]

    def eligible(self) -> Tensor:
        """Tokens whose activations count: bool [contexts, length].

        Not padding, not a context's first token, not a special token and no norm outlier: those
        carry attention sinks, which would take the top windows of hundreds of features.
        """
        eligible = self.mask == VALID
        eligible[:, 0] = False
        return eligible

    def masked_counts(self) -> dict[str, int]:
        """How many tokens each reason masks; a token may have several reasons."""
        valid = (self.mask & VALID) != 0
        return {
            "padding": int((~valid).sum()),
            "first_position": int(valid[:, 0].sum()),
            "special": int((valid & ((self.mask & SPECIAL) != 0)).sum()),
            "norm_outlier": int((valid & ((self.mask & OUTLIER) != 0)).sum()),
        }


def outliers(norms: Tensor, valid: Tensor, multiple: float = 10.0) -> Tensor:
    """Tokens whose activation norm exceeds `multiple` × the median: bool, shape of `norms`."""
    if not bool(valid.any()):
        return torch.zeros_like(valid)
    return valid & (norms > multiple * norms[valid].median())
