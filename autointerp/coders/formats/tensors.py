"""A coder's tensors: required, finite, of the right shape, and turned the right way."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autointerp.coders.coder import Decoder
from autointerp.errors import UserError


def number(settings: Mapping[str, Any], name: str, file: Path) -> float:
    """A number among the settings of `file`. Raises UserError."""
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{file}: {name} is {value!r}, not a number")
    return float(value)


def checked_k(k: object, features: int, file: Path) -> int:
    """k as a whole number from 1 to the number of features. Raises UserError."""
    if isinstance(k, bool) or not isinstance(k, int) or not 0 < k <= features:
        raise UserError(f"{file}: k={k!r} for {features} features (--k sets it)")
    return k


def required(tensors: Mapping[str, Any], name: str, file: Path) -> Tensor:
    """The tensor in float32. Raises UserError where it is missing or not finite."""
    found = tensors.get(name)
    if not isinstance(found, Tensor):
        raise UserError(f"{file} has no tensor {name!r}")
    if not bool(torch.isfinite(found).all()):
        raise UserError(f"{file}: tensor {name!r} has values that are not finite")
    return found.float()


def per_feature(tensors: Mapping[str, Any], name: str, features: int, file: Path) -> Tensor:
    """A required tensor with one entry a feature, or one for all: [features]."""
    found = required(tensors, name, file).flatten()
    if len(found) not in (1, features):
        raise UserError(f"{file}: {name!r} has {len(found)} entries for {features} features")
    return found.expand(features).clone()


def oriented(weight: Tensor, features: int, file: Path, name: str) -> Tensor:
    """A weight as [features, width], told by the number of features and not by its name.

    Families store it either way. Raises UserError where that does not fit, or does not tell.
    """
    if weight.ndim != 2 or features not in weight.shape:
        raise UserError(
            f"{file}: {name} is {tuple(weight.shape)}, but the encoder's bias has {features} "
            "entries, one a feature"
        )
    if weight.shape[0] == weight.shape[1]:
        raise UserError(
            f"{file}: as many features as inputs ({features}), so {name} may lie either way round"
        )
    return weight if weight.shape[0] == features else weight.T.contiguous()


def subtract_before(encoder: Tensor, bias: Tensor, before: Tensor, file: Path) -> Tensor:
    """The encoder's bias with a bias that is subtracted from the input folded in: [features]."""
    if len(before) != encoder.shape[1]:
        raise UserError(
            f"{file}: a decoder bias of {len(before)} entries cannot be subtracted from inputs of "
            f"width {encoder.shape[1]}"
        )
    return bias - encoder @ before


def decoder_norms(decoder: Tensor) -> Tensor:
    """Lengths of a decoder's rows: [features, d] → float32 [features]."""
    norms: Tensor = decoder.float().norm(dim=1)
    return norms


def decoder_reader(
    read: Callable[[], tuple[Tensor, Tensor | None]], features: int, file: Path
) -> Callable[[], Decoder]:
    """Reads a decoder when it is asked for: `read` gives weight, either way round, and bias."""

    def reader() -> Decoder:
        weight, bias = read()
        rows = oriented(weight, features, file, "the decoder")
        return Decoder(rows, torch.zeros(rows.shape[1]) if bias is None else bias)

    return reader
