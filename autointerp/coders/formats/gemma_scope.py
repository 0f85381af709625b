"""Gemma Scope: `params.npz` (the first) or `params.safetensors` with `config.json` (the second)."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from autointerp.coders.coder import SparseCoder
from autointerp.coders.coder_format import CoderFormat
from autointerp.coders.formats.tensors import (
    decoder_reader,
    oriented,
    per_feature,
    required,
    vector,
)
from autointerp.storage.tensor_files import (
    read_npz,
    read_safetensors,
    read_settings,
)

_FIRST, _SECOND, _CONFIG = "params.npz", "params.safetensors", "config.json"
_LAYER = re.compile(r"layer_(\d+)")
_L0 = re.compile(r"average_l0_(\d+)")
_EMBEDDING = "model.embed_tokens"
# Where the coders of each repository of the first, and each folder of the second, read.
_SITES = {
    "-res": "residual",
    "-att": "hook_z",
    "-mlp": "mlp_out",
    "-transcoders": "normalized",
    "resid_post": "residual",
    "attn_out": "hook_z",
    "mlp_out": "mlp_out",
    "transcoder": "mlp_in",
}


def matches(path: Path) -> bool:
    return (path / _FIRST).is_file() or (path / _SECOND).is_file()


def files(path: Path) -> list[Path]:
    return [f for f in (path / _FIRST, path / _SECOND, path / _CONFIG) if f.is_file()]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """JumpReLU: (h > threshold) · relu(h) with h = x · W_enc + b_enc; b_dec is not subtracted.

    Raises AutointerpError.
    """
    file = path / (_FIRST if (path / _FIRST).is_file() else _SECOND)
    config = read_settings(path / _CONFIG) if (path / _CONFIG).is_file() else {}
    hook = _hook(path, config)
    tensors = _read(file, "w_enc", "b_enc", "threshold")
    bias = vector(tensors, "b_enc", file)
    features = len(bias)

    def read_decoder() -> tuple[Tensor, Tensor]:
        stored = _read(file, "w_dec", "b_dec")
        return required(stored, "w_dec", file), vector(stored, "b_dec", file)

    return SparseCoder(
        name=path.name,
        encoder=oriented(required(tensors, "w_enc", file), features, file, "w_enc"),
        bias=bias,
        activation="jumprelu",
        threshold=per_feature(tensors, "threshold", features, file),
        hook=hook,
        expected_l0=_declared_l0(path, config),
        read_decoder=None
        if _is_transcoder(path, config)
        else decoder_reader(read_decoder, features, file),
    )


def _read(file: Path, *names: str) -> dict[str, Tensor]:
    """The needed tensors, by lower-case name: some files write `W_enc`, others `w_enc`."""
    if file.suffix == ".safetensors":
        found = read_safetensors(file, *(s for name in names for s in _spellings(name)))
        return {name.lower(): tensor for name, tensor in found.items()}
    return read_npz(file, {stored: name for name in names for stored in _spellings(name)})


def _spellings(name: str) -> set[str]:
    return {name, name.replace("w_", "W_")}


def _declared_l0(path: Path, config: dict[str, Any]) -> float | None:
    stated = config.get("l0")
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return float(stated)
    named = _L0.search(path.absolute().as_posix())
    return float(named[1]) if named else None


def _is_transcoder(path: Path, config: dict[str, Any]) -> bool:
    point_in, point_out = config.get("hf_hook_point_in"), config.get("hf_hook_point_out")
    return point_in != point_out or "transcoder" in path.absolute().as_posix()


def _hook(path: Path, config: dict[str, Any]) -> str | None:
    """Where the coder reads, as far as its files tell: the second's config is the authority."""
    stated = config.get("hf_hook_point_in")
    if isinstance(stated, str) and stated:
        return stated
    whole = path.absolute().as_posix()
    if "/embedding/" in whole:
        return _EMBEDDING
    layer = _LAYER.search(whole)
    site = next((place for part, place in _SITES.items() if part in whole), None)
    if layer is None or site is None:
        return None
    if site == "normalized":
        # The first's transcoders read the normalized residual before the norm's gain.
        return f"blocks.{int(layer[1])}.ln2.hook_normalized"
    return f"{site}:{int(layer[1])}"


CODER_FORMAT = CoderFormat(
    name="gemma_scope",
    about="Gemma Scope: params.npz (the first) or params.safetensors with config.json (the second)",
    matches=matches,
    files=files,
    load=load,
    downloads=(_FIRST, _SECOND, _CONFIG),
    order=30,
)
