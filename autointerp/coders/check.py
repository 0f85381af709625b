"""Checks by L0 and reconstruction whether an SAE reads the activations it was trained on.

A wrong layer, a bias left out or an unscaled input give activations that look like any others; they
show in how many features fire, and in how badly the input is reconstructed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from autointerp.coders.coder import SparseCoder

CHECK_TOKENS = 2048
_L0_FACTOR = 2.0


@dataclass(frozen=True)
class CoderCheck:
    """`l0`: active features a token. `fvu`: fraction of variance unexplained, None where the coder
    does not reconstruct its own input (a transcoder)."""

    tokens: int
    l0: float
    expected_l0: float | None
    fvu: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class LayerFit:
    """How well an SAE fits the same site in another layer."""

    layer: int
    l0: float
    fvu: float


@dataclass(frozen=True)
class Diagnosis:
    """An SAE, its hook point and its fit; `check` is None where nothing is encoded."""

    coder: SparseCoder | None
    hook: str | None
    check: CoderCheck | None
    layers: tuple[LayerFit, ...]
    warnings: tuple[str, ...]


@torch.no_grad()
def reconstruction(coder: SparseCoder, x: Tensor) -> tuple[float, float | None]:
    """(L0, FVU) of a calibrated coder on x: [tokens, d_in], any float type."""
    firings = coder.encode(x)
    l0 = len(firings.token) / max(len(x), 1)
    if coder.read_decoder is None:
        return l0, None
    target = coder.prepared(x)
    error = target - coder.read_decoder().reconstruct(firings, len(x))
    variance = (target - target.mean(0)).square().sum().clamp(min=1e-30)
    return l0, float(error.square().sum() / variance)


def check_coder(coder: SparseCoder, x: Tensor) -> CoderCheck:
    """Compare L0 and reconstruction on x: [tokens, d_in] with what is expected.

    x are activations of tokens that count. Warns where L0 is off by over 2×, or FVU is 1 or more
    (worse than the mean).
    """
    x = x[:CHECK_TOKENS]
    if len(x) == 0:
        said = "every token of the first contexts is masked, so nothing could be checked"
        return CoderCheck(0, 0.0, coder.expected_l0, None, (said,))
    l0, fvu = reconstruction(coder, x)
    symptoms, warnings = [], []
    expected = coder.expected_l0
    if expected and not expected / _L0_FACTOR <= l0 <= expected * _L0_FACTOR:
        symptoms.append(f"{l0:.3g} features fire per token, but the SAE declares {expected:.3g}")
    if fvu is not None and not fvu < 1:
        symptoms.append(f"the reconstruction is worse than predicting the mean (FVU {fvu:.3g})")
    if symptoms:
        named = f" (its files name {coder.hook})" if coder.hook else ""
        warnings.append(
            f"{', and '.join(symptoms)}: likely causes are another hook point or "
            f"layer than the SAE was trained on{named}, or a missing input "
            "normalization, scale or bias (b_dec)"
        )
    return CoderCheck(len(x), l0, expected, fvu, tuple(warnings))
