"""SAELens directories: `cfg.json` beside `sae_weights.safetensors`."""

import json
from pathlib import Path
from typing import Any

from autointerp.coders.coder import Activation, SparseCoder
from autointerp.coders.formats.tensors import oriented, read_safetensors, required
from autointerp.errors import UserError

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
_ACTIVATIONS: dict[str, Activation] = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk"}


def matches(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def files(path: Path) -> list[Path]:
    return [path / CONFIG, path / WEIGHTS]


def load(path: Path) -> SparseCoder:
    """Read the encoder of a SAELens directory.

    Raises UserError for unreadable files, missing tensors, architectures and input
    normalisations that are not supported.
    """
    try:
        config: Any = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path / CONFIG} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path / CONFIG} is JSON, but no object of settings")
    architecture = config.get("architecture", "standard")
    if architecture not in _ACTIVATIONS:
        raise UserError(
            f"{path / CONFIG}: architecture {architecture!r} is not supported; "
            f"known: {', '.join(_ACTIVATIONS)}"
        )
    normalisation = config.get("normalize_activations", "none")
    if normalisation not in ("none", None, False):
        raise UserError(
            f"{path / CONFIG}: normalize_activations {normalisation!r} is not supported; "
            "fold it into the weights (SAELens: fold_activation_norm_scaling_factor) first"
        )
    if config.get("rescale_acts_by_decoder_norm"):
        raise UserError(f"{path / CONFIG}: rescale_acts_by_decoder_norm is not supported")
    metadata = config.get("metadata") or {}
    file = path / WEIGHTS
    tensors = read_safetensors(file, "W_enc", "b_enc", "b_dec", "threshold")
    bias, decoder_bias = (required(tensors, name, file) for name in ("b_enc", "b_dec"))
    encoder = oriented(required(tensors, "W_enc", file), bias, decoder_bias, file)
    if config.get("apply_b_dec_to_input", True):
        bias = bias - encoder @ decoder_bias
    threshold = None
    if architecture == "jumprelu":
        threshold = required(tensors, "threshold", file)
    k = None
    if architecture == "topk":
        k = int(config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k") or 0)
        if not 0 < k <= len(bias):
            raise UserError(f"{path / CONFIG}: a topk coder of {len(bias)} features with k={k}")
    return SparseCoder(
        name=str(metadata.get("model_name", path.name)),
        encoder=encoder,
        bias=bias,
        activation=_ACTIVATIONS[architecture],
        threshold=threshold,
        k=k,
        hook=metadata.get("hook_name") or config.get("hook_name"),
    )
