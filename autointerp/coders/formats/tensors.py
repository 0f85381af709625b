"""Reading a coder's tensors: only those that are needed, checked, and turned the right way."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autointerp.errors import UserError


def read_safetensors(file: Path, *names: str) -> dict[str, Tensor]:
    """Those of the named tensors that the file has; the rest of it is not read."""
    try:
        with safe_open(file, framework="pt") as stored:
            present = set(stored.keys())
            return {name: stored.get_tensor(name) for name in names if name in present}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def required(tensors: Mapping[str, Tensor], name: str, file: Path) -> Tensor:
    """The tensor in float32. Raises UserError where it is missing or not finite."""
    if name not in tensors:
        raise UserError(f"{file} has no tensor {name!r}")
    if not bool(torch.isfinite(tensors[name]).all()):
        raise UserError(f"{file}: tensor {name!r} has values that are not finite")
    return tensors[name].float()


def oriented(encoder: Tensor, bias: Tensor, decoder_bias: Tensor, file: Path) -> Tensor:
    """The encoder as [features, d_in], told by the lengths of the biases and not by its name.

    Families store it either way. Raises UserError where the lengths do not fit, or do not tell.
    """
    features, d_in = len(bias), len(decoder_bias)
    if features == d_in:
        raise UserError(
            f"{file}: as many features as inputs ({d_in}), so W_enc may lie either way round"
        )
    if encoder.shape == (features, d_in):
        return encoder
    if encoder.shape == (d_in, features):
        return encoder.T.contiguous()
    raise UserError(
        f"{file}: W_enc is {tuple(encoder.shape)}, but b_enc has {features} and b_dec "
        f"{d_in} entries"
    )
