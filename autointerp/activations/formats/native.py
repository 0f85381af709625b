"""The native cache, dense or sparse; `writer.py` has its layout."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from autointerp.activations.activation_batch import NormSample
from autointerp.activations.cache import DenseCache, Origin, SparseCache
from autointerp.activations.cache_format import CacheFormat
from autointerp.activations.manifest import (
    FILE,
    TOKENS_FILE,
    Manifest,
    Shard,
    damaged_file,
    read_manifest,
)
from autointerp.activations.stream import DTYPES
from autointerp.errors import AutointerpError, InputError
from autointerp.storage.files import atomic_path
from autointerp.storage.tensor_files import read_safetensors
from autointerp.tensors.firings import Firings
from autointerp.tensors.hashing import file_sha256
from autointerp.vocabulary import Vocabulary

_VERIFIED = "verified.json"
_VOCABULARY = "vocabulary.parquet"


def matches(path: Path) -> bool:
    return (path / FILE).is_file()


def load(path: Path) -> DenseCache | SparseCache:
    """Raises AutointerpError where the cache is damaged or of another version."""
    manifest = read_manifest(path)
    if manifest.contexts == 0 or manifest.tokens == 0:
        raise InputError(f"the activation cache at {path} is empty: capture it again")
    damaged = damaged_file(path, manifest)
    if damaged is not None:
        raise InputError(f"{damaged} is missing or truncated: capture the cache again")
    tokens_file = path / TOKENS_FILE
    tokens = read_safetensors(tokens_file, "token_ids", "mask", "documents")
    shape = (manifest.contexts, manifest.context_length)
    for name in ("token_ids", "mask"):
        if name not in tokens or tuple(tokens[name].shape) != shape:
            raise InputError(
                f"{tokens_file} does not hold {name} of {shape}, as the manifest "
                "says: capture the cache again"
            )
    documents = tokens.get("documents")
    if documents is not None and (documents.shape, documents.dtype) != (shape, torch.int32):
        documents = None
    vocabulary = path / _VOCABULARY
    common: dict[str, Any] = {
        "path": path,
        "format": "native",
        "origin": _origin(manifest),
        "identity": file_sha256(path / FILE),
        "shape": shape,
        "token_ids": tokens["token_ids"],
        "mask": tokens["mask"],
        "mask_is_whole": True,
        "has_padding_mask": True,
        "documents": documents,
        "vocabulary": Vocabulary.load(vocabulary) if vocabulary.is_file() else None,
    }
    shards = _Shards(path, manifest)
    if manifest.sparse is not None:
        return SparseCache(
            **common,
            features=manifest.sparse.features,
            read=shards.firings,
            coder_identity=manifest.sparse.coder_identity,
        )
    return DenseCache(
        **common,
        d_in=manifest.d_in,
        dtype=DTYPES[manifest.dtype],
        read=shards.activations,
        known_norms=NormSample(manifest.norms.sample_median, manifest.norms.sample_mean),
    )


def _origin(manifest: Manifest) -> Origin:
    return Origin(
        subject=manifest.subject,
        tokenizer=manifest.tokenizer,
        hook=manifest.hook,
        text=manifest.text,
        packing=manifest.packing,
        bos=manifest.bos,
        coder=manifest.sparse.coder if manifest.sparse else None,
        producer=manifest.producer,
    )


class _Shards:
    """Reads contexts out of shards; a shard's checksum is verified before it is first read."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._verified = _verified(path)
        self._token_starts: dict[str, np.ndarray] = {}

    def _parts(self, begin: int, end: int) -> list[tuple[Shard, int, int]]:
        """The shards that hold these contexts, with the rows in them."""
        parts = []
        for shard in self._manifest.shards:
            low = max(begin, shard.first_context) - shard.first_context
            high = min(end, shard.first_context + shard.contexts) - shard.first_context
            if low < high:
                self._verify(shard)
                parts.append((shard, low, high))
        return parts

    def _verify(self, shard: Shard) -> None:
        if self._verified.get(shard.file) == shard.sha256:
            return
        if file_sha256(self._path / shard.file) != shard.sha256:
            raise InputError(
                f"{self._path / shard.file} is not what was written (its checksum "
                f"differs): remove {self._path} and capture the cache again"
            )
        self._verified[shard.file] = shard.sha256
        # A cache on a read-only disk is verified anew by every process.
        with (
            contextlib.suppress(OSError, AutointerpError),
            atomic_path(self._path / _VERIFIED) as temporary,
        ):
            temporary.write_text(json.dumps(self._verified))

    def activations(self, begin: int, end: int) -> Tensor:
        found = []
        for shard, low, high in self._parts(begin, end):
            try:
                with safe_open(self._path / shard.file, framework="pt") as file:
                    found.append(file.get_slice("acts")[low:high])
            except SafetensorError as error:
                raise InputError(f"{self._path / shard.file} cannot be read: {error}") from None
        return found[0] if len(found) == 1 else torch.cat(found)

    def firings(self, begin: int, end: int) -> Firings:
        length = self._manifest.context_length
        token, feature = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        value = [np.empty(0, np.float32)]
        for shard, low, high in self._parts(begin, end):
            try:
                with safe_open(self._path / shard.file, framework="np") as file:
                    counts = file.get_slice("counts")[low:high].ravel()
                    starts = self._starts(shard, file)
                    span = slice(int(starts[low]), int(starts[high]))
                    first = (shard.first_context + low - begin) * length
                    if span.start == span.stop:
                        continue  # an empty slice at a tensor's end cannot be read
                    feature.append(file.get_slice("features")[span].astype(np.int64))
                    value.append(file.get_slice("values")[span])
                    token.append(first + np.repeat(np.arange(len(counts)), counts))
            except SafetensorError as error:
                raise InputError(f"{self._path / shard.file} cannot be read: {error}") from None
        return Firings(*(torch.from_numpy(np.concatenate(p)) for p in (token, feature, value)))

    def _starts(self, shard: Shard, file: safe_open) -> np.ndarray:
        """Where each context's firings begin in a shard: int64 [contexts + 1]."""
        if shard.file not in self._token_starts:
            per_context = file.get_tensor("counts").astype(np.int64).sum(1)
            self._token_starts = {shard.file: np.concatenate([[0], per_context.cumsum()])}
        return self._token_starts[shard.file]


def _verified(path: Path) -> dict[str, str]:
    try:
        found = json.loads((path / _VERIFIED).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


CACHE_FORMAT = CacheFormat(
    name="native",
    about="The native cache, dense or sparse",
    matches=matches,
    load=load,
    order=10,
)
