"""A ReLU SAE in one file, NAME.sae.npz."""

from pathlib import Path

import numpy as np
import torch

from autointerp.coders.coder import Decoder, SparseCoder
from autointerp.coders.coder_format import CoderFormat


def matches(path: Path) -> bool:
    return path.name.endswith(".sae.npz")


def files(path: Path) -> list[Path]:
    return [path]


def load(path: Path, k: int | None = None) -> SparseCoder:
    with np.load(path) as stored:
        encoder, bias, rows, back = (
            torch.from_numpy(stored[name].astype(np.float32))
            for name in ("W_enc", "b_enc", "W_dec", "b_dec")
        )
    return SparseCoder(
        name=path.name.removesuffix(".sae.npz"),
        encoder=encoder.T.contiguous(),  # [features, width of the activations]
        bias=bias,
        activation="relu",
        read_decoder=lambda: Decoder(rows, back),
    )


CODER_FORMAT = CoderFormat(
    name="npz",
    about="a ReLU SAE in one file, NAME.sae.npz",
    matches=matches,
    files=files,
    load=load,
)
