"""Which features fire on the same tokens, from a sketch of each feature's firings.

Every token has one hash for all features. A feature's sketch are the largest hashes among the
tokens it fires on: tokens over the higher of two sketches' floors are seen by both, so that those
they share tell how many the features share (bottom-k sketches, Cohen & Kaplan 2007). Features that
fire on no more tokens than a sketch holds are compared exactly.
"""

import torch
from torch import Tensor

from autointerp.evidence.directions import Ranked
from autointerp.evidence.selection import (
    NONE,
    lexicographic_order,
    rank_in_group,
    starts_of_groups,
)

SKETCH = 128  # hashes; a Jaccard overlap of .5 has a standard error of about .04
_HASHES = float(1 << 63)
_ROWS_AT_ONCE = 256
_IN_QUESTION = 4  # times as many are looked at as are wanted


def coactive_features(sketches: Tensor, n_active: Tensor, n: int) -> Ranked:
    """For every feature the n of largest Jaccard overlap of the tokens they fire on.

    sketches: int64 [features, SKETCH], descending, NONE where a feature fires less; n_active: int64
    [features]. Where there are fewer than n the score is 0.
    """
    features = len(sketches)
    item = torch.zeros((features, n), dtype=torch.int64, device=sketches.device)
    score = torch.zeros((features, n), dtype=torch.float32, device=sketches.device)
    owner, slot = (sketches != NONE).nonzero(as_tuple=True)
    hashes, order = sketches[owner, slot].sort()
    owner = owner[order]
    floor = sketches[:, -1]
    # The share of all tokens that are over a sketch's floor.
    share = torch.where(floor == NONE, 1.0, 1.0 - floor.double() / _HASHES)
    for chosen in torch.arange(features, device=sketches.device).split(_ROWS_AT_ONCE):
        row, partner, shared = _shared(sketches[chosen], hashes, owner, features)
        other = partner != chosen[row]
        row, partner, shared = row[other], partner[other], shared[other]
        # Which come into question is told by how often they fire, which is quick to look up.
        both = shared / torch.minimum(share[chosen[row]], share[partner])
        either = n_active[chosen[row]] + n_active[partner] - both
        order, _ = _first(row, both / either, partner, _IN_QUESTION * n)
        feature, partner, shared = chosen[row[order]], partner[order], shared[order]
        over = torch.maximum(floor[feature], floor[partner])
        seen = _count_from(sketches, feature, over) + _count_from(sketches, partner, over)
        jaccard = (shared / (seen - shared)).float()
        order, rank = _first(feature, jaccard, partner, n)
        item[feature[order], rank], score[feature[order], rank] = partner[order], jaccard[order]
    return Ranked(item, score)


def _first(row: Tensor, score: Tensor, partner: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n of largest score of every row: their indices, and their rank in the row."""
    order = lexicographic_order(row, -score, partner)
    rank = rank_in_group(starts_of_groups(row[order]))
    return order[rank < n], rank[rank < n]


def _count_from(sketches: Tensor, feature: Tensor, floor: Tensor) -> Tensor:
    """How many hashes of a feature's sketch are at or over a floor, by bisection: int64 [pairs]."""
    # An empty place is under every hash.
    floor = floor.clamp(min=NONE + 1)
    count = torch.zeros_like(feature)
    step = SKETCH
    while step > 0:
        more = (count + step).clamp(max=SKETCH)
        count = torch.where(sketches[feature, more - 1] >= floor, more, count)
        step //= 2
    return count


def _shared(
    sketches: Tensor, hashes: Tensor, owner: Tensor, features: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of a row of `sketches` and a feature that have hashes in common, and how many.

    hashes: all of them, ascending, with the feature each is of.
    """
    row, slot = (sketches != NONE).nonzero(as_tuple=True)
    wanted = sketches[row, slot]
    begin = torch.searchsorted(hashes, wanted)
    count = torch.searchsorted(hashes, wanted, right=True) - begin
    first = torch.repeat_interleave(begin - (count.cumsum(0) - count), count)
    partner = owner[first + torch.arange(len(first), device=first.device)]
    pair = torch.repeat_interleave(row, count) * features + partner
    pair, shared = pair.unique(return_counts=True)
    return torch.div(pair, features, rounding_mode="floor"), pair % features, shared
