"""SAELens directories: `cfg.json` beside `sae_weights.safetensors`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
    subtract_before,
    vector,
)
from autointerp.errors import InputError
from autointerp.storage.tensor_files import (
    read_safetensors,
    read_settings,
    section,
)

CONFIG, WEIGHTS, SPARSITY = "cfg.json", "sae_weights.safetensors", "sparsity.safetensors"
_ARCHITECTURES: dict[str, Activation] = {
    "standard": "relu",
    "gated": "relu",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_NORMS: dict[str, InputNorm] = {
    "none": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "unit_rms",
    "expected_average_only_in": "mean_norm",
}


@dataclass(frozen=True)
class _Settings:
    architecture: str
    input_norm: InputNorm
    subtract_b_dec: bool
    rescale_by_decoder_norm: bool
    center_input: bool
    k: object
    hook: str | None
    name: str | None

    @property
    def is_transcoder(self) -> bool:
        return "transcoder" in self.architecture


def matches(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def files(path: Path) -> list[Path]:
    return [f for f in (path / CONFIG, path / WEIGHTS, path / SPARSITY) if f.is_file()]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """Read a SAELens directory of any version.

    Raises AutointerpError for unreadable files, missing tensors, architectures and input
    normalizations that are not supported.
    """
    settings = _settings(path / CONFIG)
    file = path / WEIGHTS
    names = ("W_enc", "b_enc", "b_dec", "threshold", "b_gate", "b_mag", "r_mag", "scaling_factor")
    tensors = read_safetensors(file, *names)
    gated = settings.architecture == "gated"
    bias = vector(tensors, "b_gate" if gated else "b_enc", file)
    features = len(bias)
    encoder = oriented(required(tensors, "W_enc", file), features, file, "W_enc")
    decoder_bias = vector(tensors, "b_dec", file)
    threshold = gain = shift = None
    if _ARCHITECTURES[settings.architecture] == "jumprelu":
        threshold = per_feature(tensors, "threshold", features, file)
    if gated:
        # The magnitude is another affine map of the same product (Rajamanoharan et al. 2024).
        gain = per_feature(tensors, "r_mag", features, file).exp()
        shift = per_feature(tensors, "b_mag", features, file) - gain * bias
    if settings.subtract_b_dec:
        bias = subtract_before(encoder, bias, decoder_bias, file)
    is_topk = settings.architecture == "topk"
    norms = None
    if is_topk and settings.rescale_by_decoder_norm:
        norms = decoder_norms(_decoder(file, features))
        encoder, bias = encoder * norms.unsqueeze(1), bias * norms
    if "scaling_factor" in tensors:
        factor = per_feature(tensors, "scaling_factor", features, file)
        if not bool((factor == 1).all()):
            # The last step of old versions: activations times a factor fitted afterwards.
            gain = factor if gain is None else gain * factor
            shift = None if shift is None else shift * factor
    chosen_k = checked_k(k or settings.k, features, path / CONFIG) if is_topk else None

    def read_decoder() -> tuple[Tensor, Tensor]:
        rows = _decoder(file, features)
        return (rows if norms is None else rows / norms.unsqueeze(1)), decoder_bias

    coder = SparseCoder(
        name=settings.name or path.name,
        encoder=encoder,
        bias=bias,
        activation=_ARCHITECTURES[settings.architecture],
        threshold=threshold,
        k=chosen_k,
        gain=gain,
        shift=shift,
        input_norm=settings.input_norm,
        hook=settings.hook,
        expected_l0=chosen_k or _declared_l0(path / SPARSITY),
        read_decoder=None
        if settings.is_transcoder
        else decoder_reader(read_decoder, features, file),
    )
    return coder.centered() if settings.center_input else coder


def _settings(file: Path) -> _Settings:
    """The settings of version 6, or older ones with what they left unsaid."""
    found = read_settings(file)
    metadata = section(found, "metadata")
    kwargs = section(found, "activation_fn_kwargs")
    architecture = found.get("architecture", "standard")
    is_topk = "topk" in (found.get("activation_fn"), found.get("activation_fn_str"))
    if architecture == "standard" and is_topk and kwargs.get("k") is not None:
        architecture = "topk"
    if not isinstance(architecture, str) or architecture not in _ARCHITECTURES:
        raise InputError(
            f"{file}: architecture {architecture!r} is not supported; supported: "
            f"{', '.join(_ARCHITECTURES)}"
        )
    norm = found.get("normalize_activations")
    if isinstance(norm, bool) or norm is None:
        norm = "expected_average_only_in" if norm else "none"
    if not isinstance(norm, str) or norm not in _NORMS:
        raise InputError(f"{file}: normalize_activations {norm!r} is not supported")
    transcoder = "transcoder" in architecture
    hook = metadata.get("hook_name") or found.get("hook_name") or found.get("hook_point")
    name = metadata.get("model_name") or found.get("model_name")
    model_kwargs = section(metadata, "model_from_pretrained_kwargs")
    model_kwargs = model_kwargs or section(found, "model_from_pretrained_kwargs")
    return _Settings(
        architecture=architecture,
        input_norm=_NORMS[norm],
        subtract_b_dec=bool(found.get("apply_b_dec_to_input", not transcoder)) and not transcoder,
        rescale_by_decoder_norm=bool(found.get("rescale_acts_by_decoder_norm")),
        center_input=bool(model_kwargs.get("center_writing_weights")),
        k=found.get("k", kwargs.get("k")),
        hook=hook if isinstance(hook, str) else None,
        name=name if isinstance(name, str) else None,
    )


def _decoder(file: Path, features: int) -> Tensor:
    weight = required(read_safetensors(file, "W_dec"), "W_dec", file)
    return oriented(weight, features, file, "W_dec")


def _declared_l0(file: Path) -> float | None:
    """Mean active features from the logarithms of firing rates that SAELens keeps beside."""
    if not file.is_file():
        return None
    stored: dict[str, Any] = read_safetensors(file, "sparsity")
    rates = stored.get("sparsity")
    return None if rates is None else float(torch.pow(10.0, rates.double()).sum())


CODER_FORMAT = CoderFormat(
    name="saelens",
    about="SAELens directories: cfg.json beside sae_weights.safetensors",
    matches=matches,
    files=files,
    load=load,
    downloads=(CONFIG, WEIGHTS, SPARSITY),
    order=10,
)
