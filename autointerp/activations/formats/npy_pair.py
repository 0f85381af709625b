"""Activations in one `.npy` file [contexts, length, d], their token ids in another beside it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autointerp.activations.activation_batch import VALID
from autointerp.activations.cache import DenseCache, Origin
from autointerp.activations.cache_format import CacheFormat
from autointerp.errors import InputError
from autointerp.storage.files import files_identity

_TOKENS = ("token_ids.npy", "tokens.npy", "input_ids.npy")
_MASKS = ("attention_mask.npy", "mask.npy")
_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def read_array(file: Path) -> np.ndarray:
    """Mapped from disk. Raises AutointerpError; nothing in the file is run."""
    try:
        found: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    return found


def _activations_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix == ".npy" else None
    files = [f for f in sorted(path.glob("*.npy")) if f.name not in (*_TOKENS, *_MASKS)]
    return files[0] if len(files) == 1 else None


def matches(path: Path) -> bool:
    return _activations_file(path) is not None


def load(path: Path) -> DenseCache:
    """Raises AutointerpError for files that are damaged, of other shapes or no numbers."""
    file = _activations_file(path)
    assert file is not None
    activations = read_array(file)
    if activations.ndim != 3 or activations.dtype.name not in _DTYPES:
        raise InputError(
            f"{file} holds {activations.dtype} {activations.shape}, not float16 or "
            "float32 activations [contexts, length, width]"
        )
    (contexts, length, width), dtype = activations.shape, _DTYPES[activations.dtype.name]
    del activations
    found = {}
    for name in (*_TOKENS, *_MASKS):
        beside = file.with_name(name)
        if beside.is_file():
            found[name] = read_array(beside)
            if found[name].shape != (contexts, length):
                raise InputError(
                    f"{beside} has shape {found[name].shape}, not {(contexts, length)}"
                )
            if name in _TOKENS and found[name].dtype.kind not in "iu":
                raise InputError(f"{beside} holds {found[name].dtype}, not token ids")
    tokens = next((found[n] for n in _TOKENS if n in found), None)
    kept = next((found[n] for n in _MASKS if n in found), None)
    valid = np.ones((contexts, length), bool) if kept is None else kept.astype(bool)

    def read(begin: int, end: int) -> Tensor:
        # Mapped anew each time: what was read before would stay in memory with the mapping.
        return torch.from_numpy(np.array(read_array(file)[begin:end]))

    return DenseCache(
        path=path,
        format="npy",
        origin=Origin(),
        identity=files_identity([file, *(file.with_name(n) for n in found)]),
        shape=(contexts, length),
        token_ids=None if tokens is None else torch.from_numpy(tokens.astype(np.int32)),
        mask=torch.from_numpy(valid.astype(np.uint8) * VALID),
        has_padding_mask=kept is not None,
        d_in=width,
        dtype=dtype,
        read=read,
    )


CACHE_FORMAT = CacheFormat(
    name="npy",
    about="Activations in one .npy file, their token ids in another beside it",
    matches=matches,
    load=load,
    order=50,
)
