"""A coder: what turns activations into feature activations, every family reduced to one form."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["relu", "jumprelu", "topk"]


@dataclass(frozen=True)
class Firings:
    """The active features of a batch of tokens, sparse, ordered by token: three tensors [n]."""

    token: Tensor  # int64, row of the encoded batch
    feature: Tensor  # int64
    value: Tensor  # float32, > 0


@dataclass(frozen=True)
class SparseCoder:
    """feature activations = act(W_enc · x + b_enc), with everything that can be folded folded in.

    Input scale and pre-encoder bias are folded into `encoder` and `bias` in float32. `threshold`
    is used by jumprelu, `k` by topk.
    """

    name: str
    encoder: Tensor  # float32 [features, d_in]
    bias: Tensor  # float32 [features]
    activation: Activation
    threshold: Tensor | None = None  # float32 [features]
    k: int | None = None
    hook: str | None = None  # as the coder's own file names it

    @property
    def features(self) -> int:
        return self.encoder.shape[0]

    @property
    def d_in(self) -> int:
        return self.encoder.shape[1]

    def to(self, device: torch.device) -> "SparseCoder":
        threshold = None if self.threshold is None else self.threshold.to(device)
        return SparseCoder(
            self.name,
            self.encoder.to(device),
            self.bias.to(device),
            self.activation,
            threshold,
            self.k,
            self.hook,
        )

    @torch.no_grad()
    def encode(self, x: Tensor) -> Firings:
        """x: [tokens, d_in] of any float type → its firings. Active means > 0.

        Products, bias and comparisons are in float32: bfloat16 thresholds flip features.
        """
        before = torch.addmm(self.bias, x.float(), self.encoder.T)
        if self.activation == "topk":
            assert self.k is not None
            values, features = before.topk(self.k, dim=1, sorted=False)
            keep = values > 0
            token = torch.arange(len(x), device=x.device).unsqueeze(1).expand_as(features)
            return Firings(token[keep], features[keep], values[keep])
        if self.activation == "jumprelu":
            assert self.threshold is not None
            active = (before > self.threshold) & (before > 0)
        else:
            active = before > 0
        token, feature = active.nonzero(as_tuple=True)
        return Firings(token, feature, before[token, feature])
