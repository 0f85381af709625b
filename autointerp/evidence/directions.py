"""What a feature's decoder direction says: similar features, and the tokens it makes likelier."""

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS_AT_ONCE = 256  # by the vocabulary: logits of a hundred megabytes


@dataclass(frozen=True)
class Ranked:
    """For every row the items of largest score, best first: tensors [rows, n]."""

    item: Tensor  # int64
    score: Tensor  # float32


@dataclass(frozen=True)
class Directions:
    """What is known of the decoder directions of a collector's features; None where it is not."""

    similar: Ranked | None = None  # features by cosine
    raised: Ranked | None = None  # tokens by logit
    lowered: Ranked | None = None


@torch.no_grad()
def decoder_neighbors(decoder: Tensor, rows: Tensor, n: int) -> Ranked:
    """The features whose decoder directions have the largest cosine with those of `rows`.

    decoder: [features, d]; rows: int64 [rows]. A feature is not its own neighbor.
    """
    unit = torch.nn.functional.normalize(decoder.float(), dim=1)
    n = min(n, len(unit) - 1)
    parts = []
    for chosen in rows.split(_ROWS_AT_ONCE):
        cosine = unit[chosen] @ unit.T
        cosine[torch.arange(len(chosen), device=cosine.device), chosen] = -torch.inf
        parts.append(cosine.topk(n, dim=1))
    return Ranked(torch.cat([p.indices for p in parts]), torch.cat([p.values for p in parts]))


@torch.no_grad()
def output_tokens(
    decoder: Tensor, unembedding: Tensor, gain: Tensor, rows: Tensor, n: int
) -> tuple[Ranked, Ranked]:
    """The tokens whose logits a feature's direction raises and lowers most.

    The logit lens (nostalgebraist 2020): direction · final norm's gain · unembedding. decoder:
    [features, d]; unembedding: [tokens, d]; gain: [d]; rows: int64 [rows] → (raised, lowered).
    """
    directions, unembedding = decoder.float() * gain.float(), unembedding.float().T
    raised, lowered = [], []
    n = min(n, unembedding.shape[1])
    for chosen in rows.split(_ROWS_AT_ONCE):
        logits = directions[chosen] @ unembedding
        # What moves all tokens alike changes no probability.
        logits -= logits.mean(1, keepdim=True)
        raised.append(logits.topk(n, dim=1))
        lowered.append((-logits).topk(n, dim=1))
    return (
        Ranked(torch.cat([r.indices for r in raised]), torch.cat([r.values for r in raised])),
        Ranked(torch.cat([r.indices for r in lowered]), -torch.cat([r.values for r in lowered])),
    )
