"""Qwen-Scope: `layer{n}.sae.pt` in a repository whose name ends in `L0_{k}`."""

import re
from pathlib import Path

from torch import Tensor

from autointerp.coders.coder import SparseCoder
from autointerp.coders.coder_format import CoderFormat
from autointerp.coders.formats.tensors import (
    checked_k,
    decoder_reader,
    oriented,
    required,
    vector,
)
from autointerp.errors import InputError
from autointerp.storage.tensor_files import (
    read_pickled,
)

_FILE = re.compile(r"layer(\d+)\.sae\.pt")
_K = re.compile(r"L0_(\d+)")


def matches(path: Path) -> bool:
    return path.is_file() and _FILE.fullmatch(path.name) is not None


def files(path: Path) -> list[Path]:
    return [path]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """TopK of W_enc · x + b_enc, the k largest, then ReLU; b_dec is not subtracted.

    The layer is the file's number, which counts from 0; k is not in the file and is read from the
    names of its folders where it is not given. Raises AutointerpError.
    """
    named = [_K.search(part) for part in reversed(path.absolute().parts)]
    k = k or next((int(match[1]) for match in named if match), None)
    if k is None:
        raise InputError(
            f"{path}: k is not in the file; set it with --k, or keep the file in a "
            "folder named like its repository, which ends in L0_50 or L0_100"
        )
    stored = read_pickled(path)
    bias = vector(stored, "b_enc", path)
    encoder = oriented(required(stored, "W_enc", path), len(bias), path, "W_enc")

    def read_decoder() -> tuple[Tensor, Tensor]:
        return required(stored, "W_dec", path), vector(stored, "b_dec", path)

    layer = _FILE.fullmatch(path.name)
    return SparseCoder(
        name=path.stem,
        encoder=encoder,
        bias=bias,
        activation="topk",
        k=checked_k(k, len(bias), path),
        hook=f"residual:{int(layer[1])}" if layer else None,
        expected_l0=k,
        read_decoder=decoder_reader(read_decoder, len(bias), path),
    )


CODER_FORMAT = CoderFormat(
    name="qwen_scope",
    about="Qwen-Scope: layer{n}.sae.pt in a repository whose name ends in L0_{k}",
    matches=matches,
    files=files,
    load=load,
    order=20,
)
