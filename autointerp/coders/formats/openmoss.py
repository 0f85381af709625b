"""OpenMOSS (Llama Scope 2, R1-Distill): `config.json` with `sae_weights.safetensors`."""

from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from autointerp.coders.coder import Activation, InputNorm, SparseCoder
from autointerp.coders.coder_format import CoderFormat
from autointerp.coders.formats.tensors import (
    checked_k,
    decoder_norms,
    decoder_reader,
    oriented,
    per_feature,
    required,
    scalar,
    vector,
)
from autointerp.errors import InputError
from autointerp.storage.tensor_files import (
    read_pickled,
    read_safetensors,
    read_settings,
    section,
)

_CONFIG, _WEIGHTS, _PICKLED = "config.json", "sae_weights.safetensors", "sae_weights.pt"
_MEAN_NORM = "dataset_average_activation_norm"
# Today's names, and those of the R1-Distill release.
_NAMES = {
    "encoder": ("W_E", "encoder.weight"),
    "bias": ("b_E", "encoder.bias"),
    "decoder": ("W_D", "decoder.weight"),
    "decoder_bias": ("b_D", "decoder.bias"),
    "log_threshold": ("activation_function.log_jumprelu_threshold", "log_jumprelu_threshold"),
}
_BATCH_TOPK_NOTE = "batchtopk without a saved threshold: the k largest per token fire"


def _weights(path: Path) -> Path:
    return path / _WEIGHTS if (path / _WEIGHTS).is_file() else path / _PICKLED


def matches(path: Path) -> bool:
    return (path / _CONFIG).is_file() and _weights(path).is_file()


def files(path: Path) -> list[Path]:
    return [path / _CONFIG, _weights(path)]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """The features selected by h · length of their decoder rows, with the value h.

    (`sparsity_include_decoder_norm`; without it, by h.) Raises AutointerpError.
    """
    config_file, file = files(path)
    config = read_settings(config_file)
    if config.get("use_glu_encoder"):
        raise InputError(f"{config_file}: encoders with a gated linear unit are not supported")
    tensors = _read(file, "encoder", "bias", "log_threshold")
    bias = vector(tensors, "bias", file)
    features = len(bias)
    encoder = oriented(required(tensors, "encoder", file), features, file, "the encoder")
    act_fn = str(config.get("act_fn", "jumprelu" if "log_threshold" in tensors else "relu")).lower()
    if act_fn not in ("relu", "jumprelu", "topk", "batchtopk"):
        raise InputError(f"{config_file}: act_fn {act_fn!r} is not supported")
    activation: Activation = "relu"
    threshold = gain = chosen_k = None
    notes: tuple[str, ...] = ()
    by_norm = bool(config.get("sparsity_include_decoder_norm"))
    if act_fn == "jumprelu":
        activation = "jumprelu"
        threshold = per_feature(tensors, "log_threshold", features, file).exp()
    elif act_fn != "relu":
        activation = "topk"
        chosen_k = checked_k(k or config.get("top_k"), features, config_file)
        notes = (_BATCH_TOPK_NOTE,) if act_fn == "batchtopk" else ()
    if by_norm and activation != "relu":
        norms = decoder_norms(_decoder(file, features)).clamp(min=1e-30)
        encoder, bias, gain = encoder * norms.unsqueeze(1), bias * norms, 1 / norms
    hook = config.get("hook_point_in")
    is_sae = config.get("hook_point_out", hook) == hook
    norm, mean_norm = _input_norm(config, file, config_file)

    def read_decoder() -> tuple[Tensor, Tensor | None]:
        decoder_bias = _read(file, "decoder_bias").get("decoder_bias")
        return _decoder(file, features), None if decoder_bias is None else decoder_bias.float()

    coder = SparseCoder(
        name=path.name,
        encoder=encoder,
        bias=bias,
        activation=activation,
        threshold=threshold,
        k=chosen_k,
        gain=gain,
        input_norm=norm,
        hook=hook if isinstance(hook, str) else None,
        expected_l0=chosen_k,
        notes=notes,
        read_decoder=decoder_reader(read_decoder, features, file) if is_sae else None,
    )
    return coder if mean_norm is None else coder.scaled_input(sqrt(coder.d_in) / mean_norm)


def _tensors(file: Path, *names: str) -> dict[str, Any]:
    """Those of the named tensors that the file has."""
    if file.suffix == ".pt":
        pickled = read_pickled(file)
        stored = section(pickled, "sae") or pickled
        return {name: stored[name] for name in names if name in stored}
    return dict(read_safetensors(file, *names))


def _read(file: Path, *wanted: str) -> dict[str, Tensor]:
    """The wanted tensors that the file has, by our names."""
    stored = _tensors(file, *(name for ours in wanted for name in _NAMES[ours]))
    return {ours: stored[name] for ours in wanted for name in _NAMES[ours] if name in stored}


def _decoder(file: Path, features: int) -> Tensor:
    weight = required(_read(file, "decoder"), "decoder", file)
    return oriented(weight, features, file, "the decoder")


def _input_norm(
    config: dict[str, Any], file: Path, config_file: Path
) -> tuple[InputNorm, float | None]:
    """How inputs are scaled, and their mean norm where the files hold it.

    `dataset-wise` scales by √d / mean norm; the norm is a tensor or a setting, zero or missing
    where it was not saved.
    """
    kind = config.get("norm_activation", "dataset-wise")
    if kind == "token-wise":
        return "unit_rms", None
    if kind == "inference":
        return "none", None
    if kind != "dataset-wise":
        raise InputError(f"{config_file}: norm_activation {kind!r} is not supported")
    hook = str(config.get("hook_point_in"))
    stated = section(config, _MEAN_NORM)
    saved = stated.get(hook, stated.get("in"))
    if saved is None:
        saved = scalar(_tensors(file, f"{_MEAN_NORM}.{hook}").get(f"{_MEAN_NORM}.{hook}"))
    if isinstance(saved, int | float) and saved > 0 and isfinite(saved):
        return "mean_norm", float(saved)
    return "mean_norm", None


CODER_FORMAT = CoderFormat(
    name="openmoss",
    about="OpenMOSS (Llama Scope 2, R1-Distill): config.json with sae_weights.safetensors",
    matches=matches,
    files=files,
    load=load,
    downloads=(_CONFIG, _WEIGHTS, _PICKLED),
    order=70,
)
