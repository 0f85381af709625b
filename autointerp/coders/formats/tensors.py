"""A coder's tensors: required, finite, of the right shape, and turned the right way."""

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autointerp.coders.coder import Decoder
from autointerp.errors import InputError

# A pickled tensor may repeat the values it holds; more than so many are nobody's.
_MAX_REPEATED = 1 << 24


def number(settings: Mapping[str, Any], name: str, file: Path) -> float:
    """A number among the settings of `file`. Raises AutointerpError."""
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InputError(f"{file}: {name} is {value!r}, not a number")
    return float(value)


def scalar(value: object) -> object:
    """What a tensor of one value holds; anything else as it is."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu":
        return value.item()
    return value


def checked_k(k: object, features: int, file: Path) -> int:
    """k as a whole number from 1 to the number of features. Raises AutointerpError."""
    if isinstance(k, bool) or not isinstance(k, int) or not 0 < k <= features:
        raise InputError(f"{file}: k={k!r} for {features} features (--k sets it)")
    return k


def required(tensors: Mapping[str, Any], name: str, file: Path) -> Tensor:
    """The tensor in float32, whatever it is stored in.

    Raises AutointerpError where it is missing, no plain tensor of real numbers, or not finite.
    """
    found = tensors.get(name)
    if not isinstance(found, Tensor):
        raise InputError(f"{file} has no tensor {name!r}")
    is_plain = found.layout == torch.strided and found.device.type == "cpu"
    if not is_plain or found.is_complex() or found.is_quantized:
        raise InputError(f"{file}: {name!r} is not a plain tensor of real numbers")
    if found.numel() > _MAX_REPEATED and found.nbytes > found.untyped_storage().nbytes():
        raise InputError(
            f"{file}: {name!r} claims {found.numel():,} values, more than the file holds"
        )
    try:
        values = found.detach().float()
    except RuntimeError:
        raise InputError(
            f"{file}: {name!r} is stored as {found.dtype}, which cannot be read: convert it to "
            "float32 or bfloat16"
        ) from None
    # Not asked of what is stored: float8 has no such test.
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{file}: tensor {name!r} has values that are not finite")
    return values


def vector(tensors: Mapping[str, Any], name: str, file: Path) -> Tensor:
    """A required tensor of one dimension that is not empty."""
    found = required(tensors, name, file)
    if found.ndim != 1 or len(found) == 0:
        raise InputError(f"{file}: {name!r} has shape {tuple(found.shape)}, not a vector's")
    return found


def per_feature(tensors: Mapping[str, Any], name: str, features: int, file: Path) -> Tensor:
    """A required tensor with one entry a feature, or one for all: [features]."""
    found = required(tensors, name, file).flatten()
    if len(found) not in (1, features):
        raise InputError(f"{file}: {name!r} has {len(found)} entries for {features} features")
    return found.expand(features).clone()


def oriented(weight: Tensor, features: int, file: Path, name: str) -> Tensor:
    """A weight as [features, width], told by the number of features and not by its name.

    Families store it either way. Raises AutointerpError where that does not fit, or does not tell.
    """
    if weight.ndim != 2 or features not in weight.shape:
        raise InputError(
            f"{file}: {name} has shape {tuple(weight.shape)}, but the encoder's "
            f"bias has {features} entries, one per feature"
        )
    if weight.shape[0] == weight.shape[1]:
        raise InputError(
            f"{file}: there are as many features as inputs ({features}), so the "
            f"orientation of {name} cannot be inferred"
        )
    return weight if weight.shape[0] == features else weight.T.contiguous()


def subtract_before(encoder: Tensor, bias: Tensor, before: Tensor, file: Path) -> Tensor:
    """The encoder's bias with a bias that is subtracted from the input folded in: [features]."""
    if len(before) != encoder.shape[1]:
        raise InputError(
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
        if bias is not None and bias.shape != rows.shape[1:]:
            raise InputError(
                f"{file}: a decoder bias of shape {tuple(bias.shape)} for a decoder of width "
                f"{rows.shape[1]}"
            )
        return Decoder(rows, torch.zeros(rows.shape[1]) if bias is None else bias)

    return reader
