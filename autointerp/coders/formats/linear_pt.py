"""ReLU SAEs as two linear layers in a `.pt` or `.pth` file: Goodfire, qresearch DeepSeek-R1."""

import re
from pathlib import Path

from torch import Tensor

from autointerp.coders.coder import SparseCoder
from autointerp.coders.coder_format import CoderFormat
from autointerp.coders.formats.tensors import (
    decoder_reader,
    oriented,
    required,
    vector,
)
from autointerp.storage.tensor_files import (
    read_pickled,
)

_PREFIXES = (("encoder_linear", "decoder_linear"), ("encoder", "decoder"))
_LAYER = re.compile(r"(?:[-_]l|layer[-_]?)(\d+)(?!\d)")


def _prefixes(path: Path) -> tuple[str, str] | None:
    if not path.is_file() or path.suffix not in (".pt", ".pth"):
        return None
    names = set(read_pickled(path))
    for encoder, decoder in _PREFIXES:
        wanted = {f"{p}.{kind}" for p in (encoder, decoder) for kind in ("weight", "bias")}
        if names == wanted:
            return encoder, decoder
    return None


def matches(path: Path) -> bool:
    return _prefixes(path) is not None


def files(path: Path) -> list[Path]:
    return [path]


def load(path: Path, k: int | None = None) -> SparseCoder:
    """relu(encoder · x + bias); nothing is subtracted from the input. Raises AutointerpError."""
    encoder_name, decoder_name = _prefixes(path) or _PREFIXES[0]
    stored = read_pickled(path)
    bias = vector(stored, f"{encoder_name}.bias", path)
    weight = required(stored, f"{encoder_name}.weight", path)

    def read_decoder() -> tuple[Tensor, Tensor]:
        weight = required(stored, f"{decoder_name}.weight", path)
        return weight, vector(stored, f"{decoder_name}.bias", path)

    layer = _LAYER.search(path.name) or _LAYER.search(path.absolute().parent.as_posix())
    return SparseCoder(
        name=path.stem,
        encoder=oriented(weight, len(bias), path, f"{encoder_name}.weight"),
        bias=bias,
        activation="relu",
        hook=f"residual:{int(layer[1])}" if layer else None,
        read_decoder=decoder_reader(read_decoder, len(bias), path),
    )


CODER_FORMAT = CoderFormat(
    name="linear_pt",
    about="ReLU SAEs as two linear layers in a .pt or .pth file: Goodfire, qresearch DeepSeek-R1",
    matches=matches,
    files=files,
    load=load,
    order=100,
)
