"""dictionary_learning: `ae.pt`, a state dictionary, beside the trainer's `config.json`."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from autointerp.coders.coder import Activation, SparseCoder
from autointerp.coders.coder_format import CoderFormat
from autointerp.coders.formats.tensors import (
    checked_k,
    decoder_norms,
    decoder_reader,
    oriented,
    per_feature,
    required,
    scalar,
    subtract_before,
    vector,
)
from autointerp.errors import InputError
from autointerp.storage.tensor_files import (
    read_pickled,
    read_settings,
    section,
)

_WEIGHTS, _CONFIG = "ae.pt", "config.json"
_UNSET_THRESHOLD_NOTE = (
    "its threshold was never set in training, so the k largest per token fire, not "
    "the k × batch size largest of a batch"
)


def _file(path: Path) -> Path:
    return path / _WEIGHTS if path.is_dir() else path


def matches(path: Path) -> bool:
    return _file(path).name == _WEIGHTS and _file(path).is_file()


def files(path: Path) -> list[Path]:
    config = _file(path).parent / _CONFIG
    return [_file(path), *([config] if config.is_file() else [])]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """Any class of dictionary_learning, told by its tensors; activations as its `encode` gives.

    Files are ready for raw activations: training with normalized ones folds the scale into biases
    and threshold before it saves. Raises AutointerpError.
    """
    file = _file(path)
    stored = read_pickled(file)
    config_file = file.parent / _CONFIG
    trainer = section(read_settings(config_file), "trainer") if config_file.is_file() else {}
    bias_name = next((n for n in ("encoder.bias", "b_enc", "gate_bias") if n in stored), None)
    if bias_name is None:
        raise InputError(
            f"{file} is not a dictionary of dictionary_learning: it has no encoder bias"
        )
    bias = vector(stored, bias_name, file)
    features = len(bias)
    weight_name = "encoder.weight" if "encoder.weight" in stored else "W_enc"
    encoder = oriented(required(stored, weight_name, file), features, file, weight_name)
    gain = shift = None
    if bias_name == "gate_bias":
        gain = per_feature(stored, "r_mag", features, file).exp()
        shift = per_feature(stored, "mag_bias", features, file) - gain * bias
    decoder_bias_name = next(
        (n for n in ("b_dec", "decoder_bias", "decoder.bias", "bias") if n in stored), "b_dec"
    )
    decoder_bias = vector(stored, decoder_bias_name, file)
    # AutoEncoderNew (`decoder.bias`) and JumpReluAutoEncoder take the raw input.
    takes_raw = decoder_bias_name == "decoder.bias" or _is_jumprelu(stored)
    if not takes_raw:
        bias = subtract_before(encoder, bias, decoder_bias, file)
    activation, threshold, chosen_k, notes = _activation(stored, trainer, k, features, file)
    norms = None
    if decoder_bias_name == "bias":
        # The library's own loader brings AutoEncoder's decoder to unit rows.
        norms = decoder_norms(_decoder(stored, features, file))
        encoder, bias = encoder * norms.unsqueeze(1), bias * norms

    def read_decoder() -> tuple[Tensor, Tensor]:
        rows = _decoder(stored, features, file)
        return (rows if norms is None else rows / norms.unsqueeze(1)), decoder_bias

    return SparseCoder(
        name=path.name if path.is_dir() else path.parent.name,
        encoder=encoder,
        bias=bias,
        activation=activation,
        threshold=threshold,
        k=chosen_k,
        gain=gain,
        shift=shift,
        hook=_hook(trainer),
        expected_l0=_declared_k(stored, trainer),
        notes=notes,
        read_decoder=decoder_reader(read_decoder, features, file),
    )


def _is_jumprelu(stored: dict[str, Any]) -> bool:
    threshold = stored.get("threshold")
    return isinstance(threshold, Tensor) and threshold.ndim == 1


def _declared_k(stored: dict[str, Any], trainer: dict[str, Any]) -> int | None:
    # Other classes' trainers may have a setting of that name, which is not theirs to select by.
    selects = "TopK" in str(trainer.get("dict_class", "TopK"))
    k = scalar(stored.get("k", trainer.get("k") if selects else None))
    return k if isinstance(k, int) and not isinstance(k, bool) else None


def _activation(
    stored: dict[str, Any], trainer: dict[str, Any], k: int | None, features: int, file: Path
) -> tuple[Activation, Tensor | None, int | None, tuple[str, ...]]:
    """What selects, with its threshold or k, and what its user should know."""
    if _is_jumprelu(stored):
        return "jumprelu", per_feature(stored, "threshold", features, file), None, ()
    declared = k or _declared_k(stored, trainer)
    if "k" not in stored and declared is None:
        return "relu", None, None, ()
    dict_class = trainer.get("dict_class")
    if "threshold" not in stored or dict_class == "AutoEncoderTopK":
        return "topk", None, checked_k(declared, features, file), ()
    if dict_class is None:
        raise InputError(
            f"{file}: TopK and BatchTopK SAEs have the same tensors, and config.json, "
            "which tells them apart (trainer.dict_class), is missing"
        )
    threshold = per_feature(stored, "threshold", features, file)
    if bool((threshold < 0).any()):
        return "topk", None, checked_k(declared, features, file), (_UNSET_THRESHOLD_NOTE,)
    return "jumprelu", threshold, None, ()


def _decoder(stored: dict[str, Any], features: int, file: Path) -> Tensor:
    name = "decoder.weight" if "decoder.weight" in stored else "W_dec"
    return oriented(required(stored, name, file), features, file, name)


def _hook(trainer: dict[str, Any]) -> str | None:
    """From the trainer's layer and submodule: `resid_post_layer_9`, `mlp_out_layer_9`, …"""
    layer, submodule = trainer.get("layer"), str(trainer.get("submodule_name") or "resid_post")
    if not isinstance(layer, int):
        named = re.search(r"layer_(\d+)", submodule)
        if named is None:
            return None
        layer = int(named[1])
    site = "mlp_out" if "mlp" in submodule else "attn_out" if "att" in submodule else "residual"
    return f"{site}:{layer}"


CODER_FORMAT = CoderFormat(
    name="dictionary_learning",
    about="dictionary_learning: ae.pt, a state dictionary, beside the trainer's config.json",
    matches=matches,
    files=files,
    load=load,
    downloads=(_WEIGHTS, _CONFIG),
    order=40,
)
