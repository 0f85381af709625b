"""Cache formats, each in a file of its own that makes its `CACHE_FORMAT`, and finding which."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autointerp.activations.cache import Cache, DenseCache, SparseCache, with_vocabulary
from autointerp.activations.cache_format import CACHE_FORMATS
from autointerp.activations.formats import npy_pair
from autointerp.activations.subject import load_tokenizer
from autointerp.errors import InputError
from autointerp.held import held, is_held
from autointerp.storage.files import files_identity
from autointerp.storage.tensor_files import read_safetensors, safetensors_names
from autointerp.vocabulary import vocabulary_of


def find_cache(path: Path) -> DenseCache | SparseCache:
    """The cache at `path` as it is, or the only one in the folder. Raises AutointerpError."""
    if is_held(path):
        cache = held(path, Cache)
        assert isinstance(cache, DenseCache | SparseCache)
        return cache
    if not path.exists():
        raise InputError(
            f"no activation cache at {path}: no such file or folder; pass one with "
            "--cache, or --subject and --text"
        )
    for known in CACHE_FORMATS.values():
        if known.matches(path):
            found = known.load(path)
            if found.contexts == 0 or found.tokens == 0:
                raise InputError(f"the activation cache at {path} is empty: create it again")
            return found
    inside = sorted(
        {
            child
            for child in (*path.glob("*"), *path.glob("*/*"))
            if child.is_dir() and any(known.matches(child) for known in CACHE_FORMATS.values())
        }
    )
    if len(inside) == 1:
        return find_cache(inside[0])
    if inside:
        names = ", ".join(str(child.relative_to(path)) for child in inside[:8])
        raise InputError(f"{path} holds {len(inside)} activation caches; choose one: {names}")
    raise InputError(
        f"no activation cache at {path}: it matches none of the formats {', '.join(CACHE_FORMATS)}"
    )


def open_cache(path: Path, tokens: Path | None, subject: str | None) -> DenseCache | SparseCache:
    """The cache at `path`, with token ids and their meaning: ready to collect from.

    Token ids that it lacks come from the file `tokens`; which bytes they are, from the tokenizer of
    `subject` or of the model that the cache names. Raises AutointerpError.
    """
    cache = with_token_ids(find_cache(path), tokens)
    if cache.vocabulary is None:
        named = subject or cache.origin.tokenizer or cache.origin.subject
        if named is not None:
            cache = with_vocabulary(cache, vocabulary_of(load_tokenizer(named)))
            cache = replace(cache, identity=f"{cache.identity} {named}")
    cache.get_vocabulary()
    return cache


def with_token_ids(
    cache: DenseCache | SparseCache, tokens: Path | None
) -> DenseCache | SparseCache:
    """The cache with the token ids of a file, where one is named. Raises InputError if it has none.

    What they mean is not looked up.
    """
    if tokens is not None:
        if cache.token_ids is not None:
            raise InputError(
                f"the cache {cache.path} already has token ids: remove --token-ids {tokens}"
            )
        cache = replace(
            cache,
            token_ids=_token_file(tokens, cache.shape),
            identity=f"{cache.identity} {files_identity([tokens])}",
        )
    cache.text()
    return cache


def _token_file(file: Path, shape: tuple[int, int]) -> Tensor:
    """Token ids of a .npy file, or a .safetensors file of one tensor: int32 [contexts, length]."""
    if not file.is_file():
        raise InputError(f"--token-ids {file}: no such file")
    if file.suffix == ".npy":
        array = npy_pair.read_array(file)
        dtype, integers = str(array.dtype), array.dtype.kind in "iu"
        ids = torch.from_numpy(array.astype(np.int64) if integers else np.empty(0))
    else:
        names = safetensors_names(file)
        if len(names) != 1:
            found = ", ".join(sorted(names))
            raise InputError(
                f"--token-ids {file} holds {len(names)} tensors ({found}); it must hold one"
            )
        ids = next(iter(read_safetensors(file, *names).values()))
        dtype, integers = str(ids.dtype).removeprefix("torch."), not ids.is_floating_point()
    if not integers:
        raise InputError(f"--token-ids {file} holds {dtype}, not token ids")
    ids = ids.long()
    if ids.shape not in (shape, (shape[0] * shape[1],)):
        raise InputError(
            f"--token-ids {file} holds {tuple(ids.shape)} ids; the cache has {shape[0]} × "
            f"{shape[1]} tokens"
        )
    if bool((ids < 0).any()):
        raise InputError(f"--token-ids {file} holds negative ids")
    return ids.reshape(shape).int()
