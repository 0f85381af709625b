"""OpenAI's GPT-2 small autoencoders: `<place>_v5_32k/autoencoders/<layer>.pt` (Gao et al. 2024)."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from autointerp.coders.coder import SparseCoder
from autointerp.coders.coder_format import CoderFormat
from autointerp.coders.formats.tensors import (
    checked_k,
    decoder_reader,
    oriented,
    required,
    scalar,
    subtract_before,
    vector,
)
from autointerp.errors import InputError
from autointerp.storage.tensor_files import (
    read_pickled,
    section,
)

_NAMES = {"encoder.weight", "decoder.weight", "pre_bias", "latent_bias"}
_SITES = {
    "resid_delta_attn": "attn_out:{}",
    "resid_delta_mlp": "mlp_out:{}",
    "resid_post_attn": "resid_mid:{}",
    "resid_post_mlp": "residual:{}",
    "mlp_post_act": "mlp_post:{}",
}


def matches(path: Path) -> bool:
    return (
        path.is_file() and path.suffix == ".pt" and {str(n) for n in read_pickled(path)} >= _NAMES
    )


def files(path: Path) -> list[Path]:
    return [path]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """encoder · (x - pre_bias) + latent_bias, then ReLU (v1, v4) or the k largest and ReLU (v5).

    The TopK ones take inputs normalized a token at a time to mean 0 and deviation 1. Raises
    AutointerpError.
    """
    stored = read_pickled(path)
    bias = vector(stored, "latent_bias", path)
    features = len(bias)
    encoder = oriented(required(stored, "encoder.weight", path), features, path, "encoder.weight")
    before = vector(stored, "pre_bias", path)
    activation = str(stored.get("activation", "ReLU"))
    if activation not in ("ReLU", "TopK"):
        raise InputError(f"{path}: activation {activation!r} is not supported")
    is_topk = activation == "TopK"
    chosen_k = None
    if is_topk:
        state: dict[str, Any] = section(stored, "activation_state_dict")
        chosen_k = checked_k(k or scalar(state.get("k")), features, path)

    def read_decoder() -> tuple[Tensor, Tensor]:
        return required(stored, "decoder.weight", path), before

    return SparseCoder(
        name=path.stem,
        encoder=encoder,
        bias=subtract_before(encoder, bias, before, path),
        activation="topk" if is_topk else "relu",
        k=chosen_k,
        input_norm="layer_norm" if is_topk else "none",
        hook=_hook(path),
        expected_l0=chosen_k,
        read_decoder=decoder_reader(read_decoder, features, path),
    )


def _hook(path: Path) -> str | None:
    whole = path.absolute().as_posix()
    site = next((hook for place, hook in _SITES.items() if place in whole), None)
    layer = re.fullmatch(r"\d+", path.stem)
    return site.format(int(layer[0])) if site and layer else None


CODER_FORMAT = CoderFormat(
    name="openai",
    about="OpenAI's GPT-2 small autoencoders (Gao et al. 2024)",
    matches=matches,
    files=files,
    load=load,
    order=80,
)
