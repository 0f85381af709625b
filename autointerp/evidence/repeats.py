"""Which windows hold the same text, or nearly the same: those with the same key.

Keys make duplicates a relation that does not depend on the order in which windows are seen.
"""

from typing import Literal

import torch
from torch import Tensor

from autointerp.hashing import continue_hash, mix

Repeats = Literal["near", "exact", "none"]
SHINGLE = 4  # tokens
# Odd, so that it has an inverse modulo 2^64 and hashes can be moved to position zero.
_BASE = 0x9E3779B97F4A7C15 - (1 << 64)
_SEEDS = (0x1D5, 0x3B7)  # two: windows that share a part J of their shingles have a key with J²


def text_keys(token_ids: Tensor, first_context: int, window: int, repeats: Repeats) -> Tensor:
    """The key of every window, by its context and start: int64 [contexts, length − window + 1].

    token_ids: [contexts, length], -1 where not valid. `exact`: a hash of the window's tokens;
    `near`: MinHash of its shingles (Broder 1997); `none`: no two contexts have the same.
    """
    contexts, length = token_ids.shape
    starts = length - window + 1
    if repeats == "none":
        index = first_context + torch.arange(contexts, device=token_ids.device)
        return index.unsqueeze(1).expand(-1, starts)
    if repeats == "exact":
        return _hashes(token_ids, window)
    shingle = min(SHINGLE, window)
    hashes = _hashes(token_ids, shingle)
    first, second = (
        mix(hashes ^ seed).unfold(1, window - shingle + 1, 1).amin(2) for seed in _SEEDS
    )
    return continue_hash(first, mix(second))


def _hashes(token_ids: Tensor, n: int) -> Tensor:
    """A hash of every n tokens in a row: int64 [contexts, length − n + 1]."""
    length, device = token_ids.shape[1], token_ids.device
    terms = mix(token_ids.long()) * _powers(_BASE, length, device)
    sums = torch.nn.functional.pad(terms.cumsum(1), (1, 0))
    return (sums[:, n:] - sums[:, : length - n + 1]) * _powers(
        _inverse(_BASE), length - n + 1, device
    )


def _powers(base: int, n: int, device: torch.device) -> Tensor:
    """base^0 … base^(n-1) modulo 2^64, as int64 [n]."""
    ones = torch.full((n,), base, dtype=torch.int64, device=device)
    ones[:1] = 1
    return ones.cumprod(0)


def _inverse(base: int) -> int:
    """The inverse of an odd number modulo 2^64, as a signed integer."""
    inverse = pow(base % (1 << 64), -1, 1 << 64)
    return inverse - (1 << 64) if inverse >> 63 else inverse
