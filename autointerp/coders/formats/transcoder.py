"""One transcoder a layer (mwhanna's Qwen3, circuit-tracer): `layer_{i}.safetensors`."""

import re
from pathlib import Path

from autointerp.coders.coder import SparseCoder
from autointerp.coders.formats.tensors import (
    oriented,
    per_feature,
    required,
    vector,
)
from autointerp.storage.tensor_files import (
    read_safetensors,
    read_settings,
    safetensors_names,
)

_FILE = re.compile(r"layer_(\d+)\.safetensors")
_CONFIG = "config.yaml"
_NEEDED = {"W_enc", "W_dec", "b_enc", "b_dec"}
_THRESHOLDS = ("threshold", "activation_function.threshold")


def matches(path: Path) -> bool:
    return (
        path.is_file()
        and _FILE.fullmatch(path.name) is not None
        and safetensors_names(path) >= _NEEDED
    )


def files(path: Path) -> list[Path]:
    config = path.parent / _CONFIG
    return [path, *([config] if config.is_file() else [])]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """relu(W_enc · x + b_enc), or JumpReLU where there is a threshold. Raises AutointerpError."""
    tensors = read_safetensors(path, "W_enc", "b_enc", *_THRESHOLDS)
    bias = vector(tensors, "b_enc", path)
    threshold = next(
        (per_feature(tensors, n, len(bias), path) for n in _THRESHOLDS if n in tensors), None
    )
    return SparseCoder(
        name=path.stem,
        encoder=oriented(required(tensors, "W_enc", path), len(bias), path, "W_enc"),
        bias=bias,
        activation="relu" if threshold is None else "jumprelu",
        threshold=threshold,
        hook=_hook(path),
    )


def _hook(path: Path) -> str | None:
    """The repository's config names the place; without one it is the input of the MLP."""
    layer = _FILE.fullmatch(path.name)
    if layer is None:
        return None
    place: object = "mlp.hook_in"
    if (path.parent / _CONFIG).is_file():
        place = read_settings(path.parent / _CONFIG).get("feature_input_hook", place)
    return f"blocks.{int(layer[1])}.{place}"
