"""EleutherAI sparsify: `cfg.json` beside `sae.safetensors`, in a folder named by its module."""

import re
from pathlib import Path

from torch import Tensor

from autointerp.coders.coder import Activation, SparseCoder
from autointerp.coders.coder_format import CoderFormat
from autointerp.coders.formats.tensors import (
    checked_k,
    decoder_reader,
    oriented,
    required,
    subtract_before,
    vector,
)
from autointerp.errors import InputError
from autointerp.storage.tensor_files import (
    read_safetensors,
    read_settings,
)

_CONFIG, _WEIGHTS = "cfg.json", "sae.safetensors"
_ACTIVATIONS: dict[str, Activation] = {"topk": "topk", "groupmax": "groupmax"}
_MODULE = re.compile(r"(layers|h|gpt_neox\.layers|transformer\.h)\.\d+(\.\w+)*")


def matches(path: Path) -> bool:
    return (path / _CONFIG).is_file() and (path / _WEIGHTS).is_file()


def files(path: Path) -> list[Path]:
    return [path / _CONFIG, path / _WEIGHTS]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """relu(encoder · (x - b_dec) + bias), then the k largest, or the largest of k groups.

    Transcoders take the raw input. Raises AutointerpError.
    """
    config_file, file = path / _CONFIG, path / _WEIGHTS
    config = read_settings(config_file)
    kind = config.get("activation", "topk")
    if not isinstance(kind, str) or kind not in _ACTIVATIONS:
        raise InputError(f"{config_file}: activation {kind!r} is not supported")
    tensors = read_safetensors(file, "encoder.weight", "encoder.bias", "b_dec")
    bias = vector(tensors, "encoder.bias", file)
    features = len(bias)
    encoder = oriented(required(tensors, "encoder.weight", file), features, file, "encoder.weight")
    chosen_k = checked_k(k or config.get("k"), features, config_file)
    if kind == "groupmax" and features % chosen_k:
        raise InputError(
            f"{config_file}: {features} features cannot be split into {chosen_k} equal groups"
        )
    transcoder = bool(config.get("transcode"))
    decoder_bias = vector(tensors, "b_dec", file)
    if not transcoder:
        bias = subtract_before(encoder, bias, decoder_bias, file)

    def read_decoder() -> tuple[Tensor, Tensor]:
        return required(read_safetensors(file, "W_dec"), "W_dec", file), decoder_bias

    module = _MODULE.fullmatch(path.name)
    return SparseCoder(
        name=path.name,
        encoder=encoder,
        bias=bias,
        activation=_ACTIVATIONS[kind],
        k=chosen_k,
        hook=f"{path.name}.{'input' if transcoder else 'output'}" if module else None,
        expected_l0=chosen_k,
        # A skip connection reconstructs too, so weight and bias alone are not a decoder.
        read_decoder=None
        if transcoder or config.get("skip_connection")
        else decoder_reader(read_decoder, features, file),
    )


CODER_FORMAT = CoderFormat(
    name="sparsify",
    about="EleutherAI sparsify: cfg.json beside sae.safetensors, in a folder named by its module",
    matches=matches,
    files=files,
    load=load,
    downloads=(_CONFIG, _WEIGHTS),
    order=50,
)
