"""Qwen-Scope: `layer{n}.sae.pt` in a repository whose name ends in `L0_{k}`."""

import pickle
import re
from pathlib import Path

import torch

from autointerp.coders.coder import SparseCoder
from autointerp.coders.formats.tensors import oriented, required
from autointerp.errors import UserError

_FILE = re.compile(r"layer(\d+)\.sae\.pt")
_K = re.compile(r"L0_(\d+)")


def matches(path: Path) -> bool:
    return path.is_file() and _FILE.fullmatch(path.name) is not None


def files(path: Path) -> list[Path]:
    return [path]


def load(path: Path) -> SparseCoder:
    """TopK of W_enc · x + b_enc, the k largest, then ReLU; b_dec is not subtracted.

    The layer is the file's number, which counts from 0; k is not in the file and is read from the
    names of its folders. Raises UserError.
    """
    found = [_K.search(part) for part in reversed(path.resolve().parts)]
    k = next((int(match[1]) for match in found if match), None)
    if k is None:
        raise UserError(
            f"{path}: k is not in the file; keep it in a folder named as its repository, "
            "which ends in L0_50 or L0_100"
        )
    try:
        # Mapped, because half of the file is the decoder, which is not needed.
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} cannot be read: it holds more than tensors, or is damaged"
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else "not a file"
        raise UserError(f"{path} cannot be read: {first_line}") from None
    if not isinstance(stored, dict):
        raise UserError(f"{path} holds no dictionary of tensors")
    bias, decoder_bias = (required(stored, name, path) for name in ("b_enc", "b_dec"))
    encoder = oriented(required(stored, "W_enc", path), bias, decoder_bias, path)
    if not 0 < k <= len(bias):
        raise UserError(f"{path}: k={k} for {len(bias)} features")
    match = _FILE.fullmatch(path.name)
    assert match is not None
    return SparseCoder(
        name=path.stem,
        encoder=encoder,
        bias=bias,
        activation="topk",
        k=k,
        hook=f"residual:{int(match[1])}",
    )
