"""Gemma Scope: `params.npz` (the first) or `params.safetensors` with `config.json` (the second)."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autointerp.coders.coder import SparseCoder
from autointerp.coders.formats.tensors import oriented, read_safetensors, required
from autointerp.errors import UserError

_FIRST, _SECOND, _CONFIG = "params.npz", "params.safetensors", "config.json"
_NAMES = ("w_enc", "b_enc", "b_dec", "threshold")
_LAYER = re.compile(r"layer_(\d+)")


def matches(path: Path) -> bool:
    return (path / _FIRST).is_file() or (path / _SECOND).is_file()


def files(path: Path) -> list[Path]:
    return [f for f in (path / _FIRST, path / _SECOND, path / _CONFIG) if f.is_file()]


def load(path: Path) -> SparseCoder:
    """JumpReLU: (h > threshold) · relu(h) with h = x · W_enc + b_enc; b_dec is not subtracted.

    Raises UserError.
    """
    file = path / (_FIRST if (path / _FIRST).is_file() else _SECOND)
    tensors = _read_npz(file) if file.name == _FIRST else read_safetensors(file, *_NAMES)
    bias, decoder_bias, threshold = (required(tensors, name, file) for name in _NAMES[1:])
    return SparseCoder(
        name=path.name,
        encoder=oriented(required(tensors, "w_enc", file), bias, decoder_bias, file),
        bias=bias,
        activation="jumprelu",
        threshold=threshold,
        hook=_hook(path),
    )


def _read_npz(file: Path) -> dict[str, Tensor]:
    """The needed tensors, by lower-case name: some files write `W_enc`, others `w_enc`."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            wanted = {name.lower(): name for name in stored.files if name.lower() in _NAMES}
            return {lower: torch.from_numpy(stored[name]) for lower, name in wanted.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def _hook(path: Path) -> str | None:
    """Where the coder reads, as far as its files tell: the second's config is the authority."""
    config = path / _CONFIG
    if config.is_file():
        try:
            point = str(json.loads(config.read_text(encoding="utf-8")).get("hf_hook_point_in", ""))
        except (ValueError, AttributeError) as error:
            raise UserError(f"{config} cannot be read: {error}") from None
        return point.removesuffix(".output") if point.endswith(".output") else None
    whole = path.resolve().as_posix()
    layer = _LAYER.search(whole)
    # Of the first, only the residual coders (repositories ending in -res) read a layer's output.
    return f"residual:{int(layer[1])}" if layer and "-res" in whole else None
