"""Activations and their token ids in one file, NAME.acts.npz."""

from pathlib import Path

import numpy as np
import torch

from autointerp.activations.activation_batch import VALID
from autointerp.activations.cache import DenseCache, Origin
from autointerp.activations.cache_format import CacheFormat
from autointerp.storage.files import files_identity
from autointerp.vocabulary import Vocabulary


def matches(path: Path) -> bool:
    return path.name.endswith(".acts.npz")


def load(path: Path) -> DenseCache:
    with np.load(path) as stored:
        activations = torch.from_numpy(stored["activations"])  # [contexts, length, width]
        token_ids = torch.from_numpy(stored["token_ids"].astype(np.int32))
        tokens = [str(token).encode() for token in stored["tokens"]]
    contexts, length, width = activations.shape
    return DenseCache(
        path=path,
        format="npz",
        origin=Origin(),
        identity=files_identity([path]),
        shape=(contexts, length),
        token_ids=token_ids,
        mask=torch.full((contexts, length), VALID, dtype=torch.uint8),
        vocabulary=Vocabulary(tuple(tokens), frozenset()),
        d_in=width,
        dtype=activations.dtype,
        read=lambda begin, end: activations[begin:end],
    )


CACHE_FORMAT = CacheFormat(
    name="npz",
    about="activations and their token ids in one file, NAME.acts.npz",
    matches=matches,
    load=load,
)
