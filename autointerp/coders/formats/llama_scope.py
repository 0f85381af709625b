"""Llama Scope, the first release: `hyperparams.json` with `checkpoints/final.safetensors`."""

from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from autointerp.coders.coder import Activation, SparseCoder
from autointerp.coders.formats.tensors import (
    checked_k,
    decoder_norms,
    decoder_reader,
    number,
    oriented,
    required,
    vector,
)
from autointerp.errors import InputError
from autointerp.storage.tensor_files import (
    read_safetensors,
    read_settings,
    section,
)

_CONFIG, _WEIGHTS = "hyperparams.json", Path("checkpoints") / "final.safetensors"


def matches(path: Path) -> bool:
    return (path / _CONFIG).is_file() and (path / _WEIGHTS).is_file()


def files(path: Path) -> list[Path]:
    return [path / _CONFIG, path / _WEIGHTS]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """h = (W · x + b / s) · length of the feature's decoder row; fires above the threshold.

    Weights are stored in the space of inputs scaled by s = √d / mean norm, the threshold in raw
    units for decoder rows of length 1: OpenMOSS's own conversion. (SAELens compares before the
    rows' lengths are applied, which is the same only where they are 1.) Raises AutointerpError.
    """
    config_file, file = files(path)
    config = read_settings(config_file)
    tensors = read_safetensors(
        file, "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"
    )
    bias = vector(tensors, "encoder.bias", file)
    features = len(bias)
    encoder = oriented(required(tensors, "encoder.weight", file), features, file, "encoder.weight")
    rows = oriented(required(tensors, "decoder.weight", file), features, file, "decoder.weight")
    norms = decoder_norms(rows)
    mean_norm = number(section(config, "dataset_average_activation_norm"), "in", config_file)
    if mean_norm <= 0:
        raise InputError(f"{config_file}: dataset_average_activation_norm.in is {mean_norm}")
    scale = sqrt(encoder.shape[1]) / mean_norm
    act_fn = str(config.get("act_fn", "jumprelu")).lower()
    activation: Activation = "topk" if act_fn == "topk" else "jumprelu"
    threshold, chosen_k = None, None
    if activation == "topk":
        chosen_k = checked_k(k or config.get("top_k"), features, config_file)
    elif act_fn == "jumprelu":
        threshold = torch.full((features,), number(config, "jump_relu_threshold", config_file))
    else:
        raise InputError(f"{config_file}: act_fn {act_fn!r} is not supported")
    hook = config.get("hook_point_in")
    # Bias of the output in raw units; a transcoder's would need its other scale.
    decoder_bias = vector(tensors, "decoder.bias", file) / scale

    def read_decoder() -> tuple[Tensor, Tensor]:
        return rows / norms.unsqueeze(1), decoder_bias

    return SparseCoder(
        name=path.name,
        encoder=encoder * norms.unsqueeze(1),
        bias=bias / scale * norms,
        activation=activation,
        threshold=threshold,
        k=chosen_k,
        hook=hook if isinstance(hook, str) else None,
        expected_l0=chosen_k,
        read_decoder=decoder_reader(read_decoder, features, file)
        if config.get("hook_point_out", hook) == hook
        else None,
    )
