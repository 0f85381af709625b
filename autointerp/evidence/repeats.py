"""Which windows hold the same text, or nearly the same: by keys in the pass, compared after it.

In a pass windows are repeats where they have one key: a relation that does not depend on the order
in which windows are seen. Keys are equal only where windows share all tokens, or nearly all in a
row, so that none is lost to one that is unlike it. What else repeats is found by comparing what the
pass has kept.
"""

from typing import Literal

import torch
from torch import Tensor

from autointerp.tensors.hashing import mix

Repeats = Literal["near", "exact", "none"]
METHOD = 2  # of telling repeats; raised where it changes, so that evidence is collected again
SHINGLE = 4  # tokens
_ROOM = 8  # of a window's tokens one in so many may lie outside the run that repeats share
# Odd, so that it has an inverse modulo 2^64 and hashes can be moved to position zero.
_BASE = 0x9E3779B97F4A7C15 - (1 << 64)


def text_keys(token_ids: Tensor, first_context: int, window: int, repeats: Repeats) -> Tensor:
    """The key of every window, by its context and start: int64 [contexts, length − window + 1].

    token_ids: [contexts, length], -1 where not valid. `exact`: a hash of the window's tokens;
    `near`: the least hash of its runs of seven eighths of the tokens, where it has no padding;
    `none`: no two contexts have the same.
    """
    contexts, length = token_ids.shape
    starts = length - window + 1
    if repeats == "none":
        index = first_context + torch.arange(contexts, device=token_ids.device)
        return index.unsqueeze(1).expand(-1, starts)
    whole = _hashes(token_ids, window)
    run = window - window // _ROOM
    if repeats == "exact" or run == window:
        return whole
    least = mix(_hashes(token_ids, run)).unfold(1, window - run + 1, 1).amin(2)
    # Padding is alike everywhere: of a short text all tokens are to be the same.
    padding = torch.nn.functional.pad((token_ids < 0).cumsum(1), (1, 0))
    is_full = padding[:, window:] == padding[:, :starts]
    return torch.where(is_full, least, whole)


def shingles(token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The hashes of every 4 tokens in a row of windows, and which hold a token at all.

    token_ids: [windows, length] → int64 and bool [windows, length − 3].
    """
    n = min(SHINGLE, token_ids.shape[1])
    return _hashes(token_ids, n), (token_ids >= 0).unfold(1, n, 1).any(2)


def similar_windows(marks: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of windows of a row that share half of their distinct marks: a Jaccard of 0.5.

    marks: int64 [rows, windows, marks], where `present` → row, first and second window, [pairs].
    """
    rows, windows, each = marks.shape
    order = marks.flatten(1).argsort(dim=1, stable=True)
    mark, there = marks.flatten(1).gather(1, order), present.flatten(1).gather(1, order)
    window = torch.div(order, each, rounding_mode="floor")
    row, place = there.nonzero(as_tuple=True)
    mark, window = mark[row, place], window[row, place]
    begins = torch.ones(len(row), dtype=torch.bool, device=row.device)
    begins[1:] = (mark[1:] != mark[:-1]) | (row[1:] != row[:-1])
    distinct = begins.clone()
    distinct[1:] |= window[1:] != window[:-1]
    group = begins.cumsum(0)[distinct]
    row, window = row[distinct], window[distinct]
    sizes = torch.bincount(row * windows + window, minlength=rows * windows).view(rows, windows)
    shared = torch.zeros(rows * windows * windows, dtype=torch.int32, device=row.device)
    # Windows that have a mark stand in a row: each is paired with the next one, the one after …
    at, apart = torch.arange(len(row), device=row.device), 1
    while len(at := at[: len(at) - int((at + apart >= len(row)).sum())]) > 0:
        at = at[group[at + apart] == group[at]]
        cell = (row[at] * windows + window[at]) * windows + window[at + apart]
        shared.index_add_(0, cell, torch.ones_like(cell, dtype=torch.int32))
        apart += 1
    shared = shared.view(rows, windows, windows)
    row, first, second = shared.nonzero(as_tuple=True)
    enough = 3 * shared[row, first, second] >= sizes[row, first] + sizes[row, second]
    return row[enough], first[enough], second[enough]


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
