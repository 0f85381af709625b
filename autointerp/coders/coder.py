"""`SparseCoder`, the one form of every SAE and transcoder: activations → feature activations."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from autointerp.coders.activation import Active, above, largest, largest_of_groups
from autointerp.tensors.firings import Firings

Activation = Literal["relu", "jumprelu", "topk", "groupmax"]
InputNorm = Literal["none", "layer_norm", "unit_rms", "mean_norm"]
_LAYER_NORM_EPS = 1e-5
_TINY = 1e-30
_ROWS_ON_CPU, _ROWS_ON_GPU = 1024, 4096  # tokens that are encoded at once
_COLUMNS_ON_CPU, _COLUMNS_ON_GPU = 512, 2048  # features that are multiplied at once


@dataclass(frozen=True)
class Decoder:
    """Reconstruction = feature activations · weight + bias.

    What it reconstructs is the coder's input as `SparseCoder.prepared` gives it; a transcoder's
    target is another place of the model, so it has no decoder here.
    """

    weight: Tensor  # [features, d_in]
    bias: Tensor  # float32 [d_in]

    @torch.no_grad()
    def reconstruct(self, firings: Firings, tokens: int) -> Tensor:
        """float32 [tokens, d_in]; reads only the rows of features that fire."""
        device = firings.value.device
        used, index = firings.feature.unique(return_inverse=True)
        if len(used) == 0:
            return self.bias.to(device).expand(tokens, -1)
        rows = self.weight[used.cpu()].float().to(device)
        starts = torch.searchsorted(firings.token, torch.arange(tokens, device=device))
        summed: Tensor = torch.nn.functional.embedding_bag(
            index, rows, starts, mode="sum", per_sample_weights=firings.value
        )
        return summed + self.bias.to(device)


@dataclass(frozen=True)
class SparseCoder:
    """h = encoder · prepared(x) + bias; what `activation` selects of h fires with gain · h + shift.

    Input scale and pre-encoder bias are folded into `encoder` and `bias` in float32. `threshold`
    is used by jumprelu, `k` by topk and groupmax. `gain` and `shift` are 1 and 0 for most: gated
    coders are relu coders with both, and coders that select by decoder norm undo it with `gain`.
    """

    name: str
    encoder: Tensor  # float32 [features, d_in]
    bias: Tensor  # float32 [features]
    activation: Activation
    threshold: Tensor | None = None  # float32 [features]
    k: int | None = None
    gain: Tensor | None = None  # float32 [features]
    shift: Tensor | None = None  # float32 [features]
    input_norm: InputNorm = "none"
    hook: str | None = None  # as the coder's own file names it
    expected_l0: float | None = None  # active features a token, as the coder's files declare
    notes: tuple[str, ...] = ()  # what its user should know
    read_decoder: Callable[[], Decoder] | None = None

    @property
    def features(self) -> int:
        return self.encoder.shape[0]

    @property
    def d_in(self) -> int:
        return self.encoder.shape[1]

    def to(self, device: torch.device) -> "SparseCoder":
        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            encoder=self.encoder.to(device),
            bias=self.bias.to(device),
            threshold=moved(self.threshold),
            gain=moved(self.gain),
            shift=moved(self.shift),
        )

    def alone(self) -> "SparseCoder":
        """A copy without the decoder and with tensors of its own, to be written to disk."""

        def copied(tensor: Tensor) -> Tensor:
            whole = tensor.untyped_storage().nbytes() == tensor.nbytes
            return tensor if whole else tensor.clone()

        def copied_if(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else copied(tensor)

        return replace(
            self,
            encoder=copied(self.encoder),
            bias=copied(self.bias),
            threshold=copied_if(self.threshold),
            gain=copied_if(self.gain),
            shift=copied_if(self.shift),
            read_decoder=None,
        )

    @property
    def independent(self) -> bool:
        """Whether a feature fires whatever the others do, so that some can be encoded alone."""
        return self.activation in ("relu", "jumprelu")

    def restricted(self, features: Tensor) -> "SparseCoder":
        """The coder of some of its features, renumbered in their order: int64 [n].

        Only for independent coders; it has no decoder.
        """
        assert self.independent

        def chosen(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[features.to(tensor.device)]

        encoder, bias = chosen(self.encoder), chosen(self.bias)
        assert encoder is not None
        assert bias is not None
        return replace(
            self,
            encoder=encoder,
            bias=bias,
            threshold=chosen(self.threshold),
            gain=chosen(self.gain),
            shift=chosen(self.shift),
            read_decoder=None,
        )

    def scaled_input(self, scale: float) -> "SparseCoder":
        """The coder of inputs that still have to be multiplied by `scale`.

        Bias and threshold are in the scaled units already, so only the encoder changes.
        """
        decoder = self.read_decoder

        def read() -> Decoder:
            assert decoder is not None
            stored = decoder()
            return Decoder(stored.weight / scale, stored.bias / scale)

        return replace(
            self,
            encoder=self.encoder * scale,
            input_norm="none",
            read_decoder=None if decoder is None else read,
        )

    def calibrated(self, mean_norm: float) -> "SparseCoder":
        """With an input scale that its files do not tell taken from the mean norm of activations.

        √d_in / mean norm, as SAELens's `expected_average_only_in` defines it.
        """
        if self.input_norm != "mean_norm":
            return self
        return self.scaled_input(sqrt(self.d_in) / mean_norm)

    def centered(self) -> "SparseCoder":
        """The coder of inputs whose mean over d_in has to be subtracted first."""
        return replace(self, encoder=self.encoder - self.encoder.mean(1, keepdim=True))

    def prepared(self, x: Tensor) -> Tensor:
        """x: [tokens, d_in] of any float type → float32, normalized as the coder wants it."""
        x = x.float()
        if self.input_norm == "layer_norm":
            centered = x - x.mean(-1, keepdim=True)
            deviation: Tensor = centered.std(-1, keepdim=True)
            return centered / (deviation + _LAYER_NORM_EPS)
        if self.input_norm == "unit_rms":
            norm: Tensor = x.norm(dim=-1, keepdim=True)
            return x * (sqrt(self.d_in) / norm.clamp(min=_TINY))
        assert self.input_norm == "none", "the SAE must be calibrated before it encodes"
        return x

    @torch.no_grad()
    def encode(self, x: Tensor) -> Firings:
        """x: [tokens, d_in] of any float type → its firings. Active means > 0.

        Products, bias and comparisons are in float32: bfloat16 thresholds flip features.
        """
        rows = _ROWS_ON_CPU if x.device.type == "cpu" else _ROWS_ON_GPU
        before = torch.empty(rows, self.features, device=x.device)
        parts = []
        for begin in range(0, max(len(x), 1), rows):
            # The last bits of a product depend on its shape: all have the same, so that what fires
            # depends neither on how tokens come in batches nor on which features are encoded.
            part = self.prepared(x[begin : begin + rows])
            missing = rows - len(part)
            padded = pad(part, (0, 0, 0, missing)) if missing else part
            self._multiply(padded, before)
            token, feature, value = self._active(before[: len(part)])
            parts.append((token + begin, feature, value))
        token, feature, value = (torch.cat(column) for column in zip(*parts, strict=True))
        if self.gain is not None:
            value = value * self.gain[feature]
        if self.shift is not None:
            value = value + self.shift[feature]
            fires = value > 0
            token, feature, value = token[fires], feature[fires], value[fires]
        return Firings(token, feature, value)

    def _multiply(self, x: Tensor, before: Tensor) -> None:
        """x: [rows, d_in] → `before` [rows, features], in blocks of equal width."""
        width = _COLUMNS_ON_CPU if x.device.type == "cpu" else _COLUMNS_ON_GPU
        for begin in range(0, self.features, width):
            block = slice(begin, begin + width)
            weight, bias, out = self.encoder[block], self.bias[block], before[:, block]
            missing = width - len(weight)
            if missing == 0:
                torch.addmm(bias, x, weight.T, out=out)
            else:
                wide = torch.addmm(pad(bias, (0, missing)), x, pad(weight, (0, 0, 0, missing)).T)
                out.copy_(wide[:, : len(weight)])

    def _active(self, before: Tensor) -> Active:
        if self.activation == "relu":
            return above(before, 0)
        if self.activation == "jumprelu":
            assert self.threshold is not None
            return above(before, self.threshold.clamp(min=0))
        assert self.k is not None
        select = largest if self.activation == "topk" else largest_of_groups
        return select(before, self.k)
