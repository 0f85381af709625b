"""The native activation cache: a manifest, token ids with a mask, and shards of activations.

manifest.json          what was captured and how; shards with sizes and checksums
tokens.safetensors     token_ids int32, mask uint8, norms float32: [contexts, length]
vocabulary.parquet     the bytes of every token id
acts-00000.safetensors acts [shard contexts, length, d_in], bfloat16 or float32
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from autointerp.activations.batch import OUTLIER, SPECIAL, VALID, ActivationBatch, outliers
from autointerp.errors import UserError
from autointerp.hashing import file_sha256

FORMAT_VERSION = 1
_SHARD_BYTES = 1 << 30


class Shard(BaseModel):
    file: str
    first_context: int
    contexts: int
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """`manifest.json`: what was captured and how; `median_norm` is over valid tokens.

    `made_from` is a fingerprint of everything the cache depends on.
    """

    format_version: Literal[1] = 1
    made_from: str
    subject: str
    hook: str
    d_in: int
    dtype: Literal["bfloat16", "float32"]
    context_length: int
    contexts: int
    tokens: int
    packing: str
    text: str
    documents: int
    special_token_ids: list[int]
    median_norm: float
    shards: list[Shard]


class CacheWriter:
    """Writes a cache beside its final place and moves it there when it is whole.

    Until `finish` returns, nothing exists at `path`; a capture that dies leaves only
    `<path>.partial`, which the next one removes.
    """

    def __init__(self, path: Path, d_in: int, context_length: int, dtype: torch.dtype) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.d_in = d_in
        self.context_length = context_length
        self.dtype = dtype
        if self.partial.exists():
            shutil.rmtree(self.partial)
        self.partial.mkdir(parents=True)
        self._token_ids: list[Tensor] = []
        self._valid: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._pending: list[Tensor] = []
        self._shards: list[Shard] = []
        self._written = 0
        row_bytes = context_length * d_in * dtype.itemsize
        self._shard_contexts = max(1, _SHARD_BYTES // row_bytes)

    def add(self, token_ids: Tensor, valid: Tensor, activations: Tensor) -> None:
        """token_ids, valid: [contexts, length]; activations: [contexts, length, d_in]."""
        self._token_ids.append(token_ids.int().cpu())
        self._valid.append(valid.bool().cpu())
        self._norms.append(activations.float().norm(dim=-1).cpu())
        self._pending.append(activations.to(self.dtype).cpu())
        while sum(len(p) for p in self._pending) >= self._shard_contexts:
            self._write_shard(self._shard_contexts)

    def _write_shard(self, contexts: int) -> None:
        joined = torch.cat(self._pending)
        file = self.partial / f"acts-{len(self._shards):05d}.safetensors"
        save_file({"acts": joined[:contexts].contiguous()}, file)
        self._pending = [joined[contexts:]] if len(joined) > contexts else []
        self._shards.append(
            Shard(
                file=file.name,
                first_context=self._written,
                contexts=contexts,
                bytes=file.stat().st_size,
                sha256=file_sha256(file),
            )
        )
        self._written += contexts

    def finish(
        self,
        *,
        made_from: str,
        subject: str,
        hook: str,
        text: str,
        documents: int,
        packing: str,
        special_token_ids: frozenset[int],
    ) -> Manifest:
        """Write the last shard, tokens and manifest, and move the cache to its place."""
        if self._pending:
            self._write_shard(sum(len(p) for p in self._pending))
        if self._written == 0:
            raise UserError(f"nothing was captured: {text} holds less than one context of text")
        token_ids, valid, norms = map(torch.cat, (self._token_ids, self._valid, self._norms))
        special = torch.isin(token_ids, torch.tensor(sorted(special_token_ids), dtype=torch.int32))
        mask = valid * VALID + (valid & special) * SPECIAL + outliers(norms, valid) * OUTLIER
        save_file(
            {"token_ids": token_ids, "mask": mask.to(torch.uint8), "norms": norms},
            self.partial / "tokens.safetensors",
        )
        manifest = Manifest(
            made_from=made_from,
            subject=subject,
            hook=hook,
            d_in=self.d_in,
            dtype="bfloat16" if self.dtype == torch.bfloat16 else "float32",
            context_length=self.context_length,
            contexts=self._written,
            tokens=int(valid.sum()),
            packing=packing,
            text=text,
            documents=documents,
            special_token_ids=sorted(special_token_ids),
            median_norm=float(norms[valid].median()),
            shards=self._shards,
        )
        (self.partial / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self.partial, self.path)
        return manifest


class ActivationCache:
    """A native cache opened for reading; its tensors stay on disk until a batch asks for them."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where the cache is missing, empty, damaged or of another version."""
        self.path = path
        manifest_file = path / "manifest.json"
        if not manifest_file.is_file():
            raise UserError(f"no activation cache at {path}: there is no manifest.json in it")
        try:
            self.manifest = Manifest.model_validate_json(manifest_file.read_text())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"]) or "the file"
            raise UserError(
                f"{manifest_file} is no manifest of version {FORMAT_VERSION}: "
                f"{where}: {first['msg']}"
            ) from None
        if self.manifest.contexts == 0 or self.manifest.tokens == 0:
            raise UserError(f"the activation cache at {path} is empty: capture it again")
        for shard in self.manifest.shards:
            file = path / shard.file
            if not file.is_file() or file.stat().st_size != shard.bytes:
                raise UserError(
                    f"{file} is missing or not {shard.bytes:,} bytes long: capture the cache again"
                )
        try:
            tokens = load_file(path / "tokens.safetensors")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path / 'tokens.safetensors'} cannot be read: {error}") from None
        self.token_ids: Tensor = tokens["token_ids"]
        self.mask: Tensor = tokens["mask"]
        shape = (self.manifest.contexts, self.manifest.context_length)
        if tuple(self.token_ids.shape) != shape or tuple(self.mask.shape) != shape:
            raise UserError(
                f"{path / 'tokens.safetensors'} holds {tuple(self.token_ids.shape)} tokens, "
                f"but the manifest says {shape}: capture the cache again"
            )

    def identity(self) -> str:
        """Changes when what is in the cache does."""
        return file_sha256(self.path / "manifest.json")

    def batches(self, contexts: int, device: torch.device) -> Iterator[ActivationBatch]:
        """Batches of at most `contexts` whole contexts, in order; none spans two shards."""
        for shard in self.manifest.shards:
            try:
                with safe_open(self.path / shard.file, framework="pt") as file:
                    acts = file.get_slice("acts")
                    for begin in range(0, shard.contexts, contexts):
                        end = min(begin + contexts, shard.contexts)
                        rows = slice(shard.first_context + begin, shard.first_context + end)
                        yield ActivationBatch(
                            rows.start,
                            self.token_ids[rows].to(device),
                            self.mask[rows].to(device),
                            acts[begin:end].to(device),
                        )
            except SafetensorError as error:
                raise UserError(f"{self.path / shard.file} cannot be read: {error}") from None
