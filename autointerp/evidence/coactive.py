"""Which features fire on the same tokens, from a sketch of each feature's firings.

Every token has one hash for all features. A feature's sketch are the largest hashes among the
tokens it fires on: tokens over the higher of two sketches' floors are seen by both, so that those
they share tell how many the features share (bottom-k sketches, Cohen & Kaplan 2007). Features that
fire on no more tokens than a sketch holds are compared exactly.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from autointerp.evidence.directions import Ranked
from autointerp.evidence.selection import NONE

SKETCH = 128  # hashes; a Jaccard overlap of .5 has a standard error of about .04
_HASHES = float(1 << 63)
_IN_QUESTION = 4  # times as many are looked at as are wanted
_PAIRS_AT_ONCE = 1 << 20
_CELLS_AT_ONCE = 1 << 23  # of a table of rows by features
_MAX_PAIRS = 1 << 31  # beyond that smaller sketches are compared


def coactive_features(sketches: Tensor, n_active: Tensor, n: int) -> Iterator[Ranked]:
    """For every feature the n of largest Jaccard overlap of the tokens they fire on.

    sketches: int64 [features, SKETCH], descending, NONE where a feature fires less; n_active: int64
    [features]. Gives consecutive features in parts; where there are fewer than n the score is 0.
    """
    sketches = _affordable(sketches)
    features, device = len(sketches), sketches.device
    n = min(n, features)
    owner, slot = (sketches != NONE).nonzero(as_tuple=True)
    hashes, order = sketches[owner, slot].sort()
    owner = owner[order]
    floor = sketches[:, -1]
    # The share of all tokens that are over a sketch's floor.
    share = torch.where(floor == NONE, 1.0, 1.0 - floor.double() / _HASHES).float()
    fires = n_active.float()
    begin = torch.searchsorted(hashes, sketches)
    count = torch.searchsorted(hashes, sketches, right=True) - begin
    count[sketches == NONE] = 0
    table = torch.zeros(max(features, _CELLS_AT_ONCE), dtype=torch.float32, device=device)
    for rows in _parts(count.sum(1), features):
        part = slice(rows.start, rows.stop)
        counts = count[part].flatten()
        first = torch.repeat_interleave(begin[part].flatten() - (counts.cumsum(0) - counts), counts)
        partner = owner[first + torch.arange(len(first), device=device)]
        row = torch.repeat_interleave(torch.arange(len(rows), device=device), count[part].sum(1))
        cell = row * features + partner
        scores = table[: len(rows) * features]
        scores.zero_().scatter_add_(0, cell, torch.ones((), device=device).expand(len(cell)))
        # Which come into question is told by how often they fire, which is quick to look up.
        both = scores[cell] / torch.minimum(share[rows.start + row], share[partner])
        either = fires[rows.start + row] + fires[partner] - both
        shared = scores[cell]
        scores[cell] = both / either
        square = scores.view(len(rows), features)
        own = torch.arange(len(rows), device=device)
        square[own, rows.start + own] = 0
        likely = square.topk(min(_IN_QUESTION * n, features), dim=1).indices
        scores[cell] = shared
        yield _best(square.gather(1, likely), likely, rows, sketches, n)


def _best(shared: Tensor, partner: Tensor, rows: range, sketches: Tensor, n: int) -> Ranked:
    """Of a few partners of each row the n of largest overlap.

    shared: float32 [rows, partners], hashes in both sketches; partner: int64, the same shape.
    """
    feature = torch.arange(rows.start, rows.stop, device=partner.device)
    own = feature.unsqueeze(1).expand_as(partner)
    over = torch.maximum(sketches[own, -1], sketches[partner, -1])
    seen = _count_from(sketches, own, over) + _count_from(sketches, partner, over)
    jaccard = shared / (seen - shared).clamp(min=1)
    jaccard[partner == own] = 0
    # Of equal ones the first: sorted by feature, then stably by overlap.
    partner, order = partner.sort(dim=1)
    jaccard, order = jaccard.gather(1, order).sort(dim=1, descending=True, stable=True)
    return Ranked(partner.gather(1, order)[:, :n], jaccard[:, :n])


def _affordable(sketches: Tensor) -> Tensor:
    """The sketches, halved as long as comparing them would take too long.

    That is where many features fire on every token.
    """
    while sketches.shape[1] > 1:
        known = sketches[sketches != NONE]
        _, counts = known.unique(return_counts=True)
        if int(counts.square().sum()) <= _MAX_PAIRS:
            break
        sketches = sketches[:, : sketches.shape[1] // 2].contiguous()
    return sketches


def _parts(pairs: Tensor, features: int) -> Iterator[range]:
    """Consecutive rows, with so many pairs each, that fit into memory at once."""
    most = max(1, _CELLS_AT_ONCE // features)
    begin = taken = 0
    for row, size in enumerate(pairs.tolist()):
        if row > begin and (taken + size > _PAIRS_AT_ONCE or row - begin == most):
            yield range(begin, row)
            begin, taken = row, 0
        taken += size
    yield range(begin, len(pairs))


def _count_from(sketches: Tensor, feature: Tensor, floor: Tensor) -> Tensor:
    """How many hashes of a feature's sketch are at or over a floor, by bisection: int64."""
    size = sketches.shape[1]
    # An empty place is under every hash.
    floor = floor.clamp(min=NONE + 1)
    count = torch.zeros_like(feature)
    step = size
    while step > 0:
        more = (count + step).clamp(max=size)
        count = torch.where(sketches[feature, more - 1] >= floor, more, count)
        step //= 2
    return count
