"""A random SAE in place of a real one: a control for scores of meaningless features.

Heap et al. 2025 (arXiv 2501.17727) find that labels of SAEs of models that were never trained score
as well as those of trained ones, so that a score says little without such a control.
"""

from dataclasses import replace

import torch
from torch import Tensor

from autointerp.coders.coder import Decoder, SparseCoder

VERSION = 1
_SALT = 0x7A4D
_ROUNDS = 5  # of matching densities and competition in turns
_FEATURES_AT_ONCE, _TOKENS_AT_ONCE = 512, 1024
_SHORT = 0.01  # of the tokens may have fewer active features than the real coder gives them


@torch.no_grad()
def randomized(coder: SparseCoder, x: Tensor, seed: int) -> SparseCoder:
    """A coder of the same shape whose features are random directions, as dense as the real ones.

    coder: calibrated; x: [tokens, d_in], activations of tokens that count. Encoder rows are drawn
    isotropically with the real rows' lengths; decoder rows are their directions, so that features
    that are similar there fire alike. k and thresholds are kept, and biases are such that on `x`
    each feature fires on as many tokens as the real one, within a few per cent where features
    compete. Its activations are the pre-activations themselves.

    Depends on the coder, `x` and the seed alone. A coder without a decoder gives one without.
    """
    device = coder.encoder.device
    generator = torch.Generator().manual_seed((seed ^ _SALT) % (1 << 63))
    drawn = torch.randn(coder.features, coder.d_in, generator=generator)
    directions = torch.nn.functional.normalize(drawn, dim=1)
    encoder = directions.to(device) * coder.encoder.norm(dim=1, keepdim=True)
    counts = torch.bincount(coder.encode(x).feature, minlength=coder.features)
    inputs = coder.prepared(x)
    if coder.independent:
        bias = -_levels(encoder, inputs, counts)
        if coder.threshold is not None:
            bias += coder.threshold.clamp(min=0)
    else:
        bias = _competing_bias(coder, encoder, inputs, counts)
    return replace(
        coder,
        encoder=encoder,
        bias=bias,
        gain=None,
        shift=None,
        expected_l0=None,
        notes=(),
        read_decoder=coder.read_decoder
        and (lambda: Decoder(directions, torch.zeros(directions.shape[1]))),
    )


def _competing_bias(coder: SparseCoder, encoder: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    """Biases with which features that compete are as dense as `counts` says: [features].

    A feature fires where it is over what the token asks for, which depends on the biases: each is
    set by the other in turns, as in Sinkhorn's scaling of a matrix to given sums of its rows and
    columns. What all biases have in common decides nothing but whether the last that win are over
    0; it is such that they are where the real coder's are.
    """
    assert coder.k is not None
    groups, winners = (1, coder.k) if coder.activation == "topk" else (coder.k, 1)
    bias = -_levels(encoder, x, counts)
    for _ in range(_ROUNDS):
        bias = -_levels(encoder, x, counts, _asked(encoder, bias, x, groups, winners))
    asked = _asked(encoder, bias, x, groups, winners).flatten()
    silent = max(_SHORT, 1 - float(counts.sum()) / (len(x) * coder.k))
    return bias - asked.kthvalue(max(1, round(silent * len(asked)))).values


def _levels(encoder: Tensor, x: Tensor, counts: Tensor, asked: Tensor | None = None) -> Tensor:
    """What each feature's product with x is over on `counts` tokens: float32 [features].

    x: [tokens, d_in]; counts: int64 [features]; asked: [tokens, groups], what is taken off first,
    for as many equal groups of features. Half-way between the last that is over and the next.
    """
    levels = torch.empty(len(encoder), device=encoder.device)
    # Those of about one density together: no more of the largest are looked for than they need.
    for block in counts.argsort().split(_FEATURES_AT_ONCE):
        product = encoder[block] @ x.T
        if asked is not None:
            product -= asked.T[block * asked.shape[1] // len(encoder)]
        n = counts[block].unsqueeze(1)
        largest = product.topk(min(int(n.max()) + 1, len(x)), dim=1).values
        last, following = (n - 1).clamp(min=0), n.clamp(max=largest.shape[1] - 1)
        ends = largest.gather(1, torch.cat([last, following], dim=1))
        levels[block] = torch.where(n == 0, largest[:, :1], ends.mean(1, keepdim=True)).squeeze(1)
    return levels


def _asked(encoder: Tensor, bias: Tensor, x: Tensor, groups: int, winners: int) -> Tensor:
    """What a pre-activation must be over to be among its group's `winners`: [tokens, groups]."""
    size = len(encoder) // groups
    parts = []
    for rows in x.split(_TOKENS_AT_ONCE):
        before = torch.addmm(bias, rows, encoder.T).unflatten(1, (groups, size))
        best = before.topk(min(winners + 1, size), dim=2).values
        parts.append(best[..., -2:].mean(2))
    return torch.cat(parts)
