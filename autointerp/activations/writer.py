"""Writes the native cache: in shards, atomically, resuming a stopped capture.

manifest.json          what was captured and how; shards with sizes and checksums
tokens.safetensors     token_ids and documents int32, mask uint8, norms float32 [contexts, length]
vocabulary.parquet     the bytes of every token id
acts-00000.safetensors dense: acts [contexts, length, d_in], bfloat16 or float32
                       sparse: counts uint16 [contexts, length], then features (uint16, or int32
                       beyond 65,536) and values (float32) of the active features, token by token
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from autointerp.activations.activation_batch import NOT_FINITE, VALID, ActivationBatch, NormSample
from autointerp.activations.finite import check_finite
from autointerp.activations.manifest import FILE, TOKENS_FILE, Manifest, Norms, Shard
from autointerp.errors import InputError
from autointerp.storage.files import atomic_path, unwritable
from autointerp.tensors.firings import Firings
from autointerp.tensors.hashing import file_sha256

SHARD_BYTES = 256 << 20
_STATE = "state.json"
_TOKEN_PARTS = ("token_ids", "mask", "documents", "norms")


_Row = dict[str, Any]  # of one batch: an array for each name, and the activations as a tensor


class _State(BaseModel):
    """What of a capture is on disk, so that the next one need not do it again."""

    made_from: str
    norms: tuple[float, float]  # median and mean of the sample
    firings: int = 0
    shards: list[Shard] = []

    @property
    def contexts(self) -> int:
        return sum(s.contexts for s in self.shards)


def partial_path(path: Path) -> Path:
    """The folder in which a cache is written until it is complete."""
    return path.with_name(path.name + ".partial")


def unfinished(path: Path) -> str | None:
    """The fingerprint of a stopped capture at `path`; None if there is none."""
    state = _state_of(partial_path(path))
    return None if state is None else state.made_from


def _state_of(partial: Path) -> _State | None:
    try:
        return _State.model_validate_json((partial / _STATE).read_text())
    except (OSError, ValidationError):
        return None


class CacheWriter:
    """Writes a cache beside its final place, `<path>.partial`, and moves it there when it is whole.

    A capture that is killed leaves its finished shards; the next one with the same `made_from`
    keeps them, and `written` says how many contexts they hold.
    """

    def __init__(self, path: Path, made_from: str) -> None:
        self.path = path
        self.partial = partial_path(path)
        self._rows: list[_Row] = []
        self._held_bytes = 0
        found = _state_of(self.partial)
        if found is not None and found.made_from == made_from and self._is_whole(found):
            self._state: _State = found
        else:
            with self._said():
                if self.partial.exists():
                    shutil.rmtree(self.partial)
                self.partial.mkdir(parents=True)
            self._state = _State(made_from=made_from, norms=(0, 0))

    @contextmanager
    def _said(self) -> Iterator[None]:
        """A write error in one line; finished shards stay for the next capture."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise InputError(f"the cache {unwritable(self.path, error)}") from None

    def _is_whole(self, state: _State) -> bool:
        return all(
            (self.partial / shard.file).is_file()
            and (self.partial / shard.file).stat().st_size == shard.bytes
            and self._tokens_file(number).is_file()
            for number, shard in enumerate(state.shards)
        )

    def _tokens_file(self, number: int) -> Path:
        return self.partial / f"tokens-{number:05d}.safetensors"

    @property
    def written(self) -> int:
        """Contexts that are on disk."""
        return self._state.contexts

    def begin(self, norms: NormSample) -> None:
        self._state.norms = (norms.median, norms.mean)

    def add(
        self, batch: ActivationBatch, documents: np.ndarray, firings: Firings | None = None
    ) -> None:
        """The next batch, in order; rows that are on disk already are passed over.

        documents: int32 [contexts, length]. With `firings` they are stored instead of the
        activations.
        """
        skip = max(0, self.written - batch.first_context) if not self._rows else 0
        contexts, length = batch.token_ids.shape
        if skip >= contexts:
            return
        row: _Row = {
            "token_ids": batch.token_ids.int().cpu().numpy()[skip:],
            "mask": batch.mask.cpu().numpy()[skip:],
            "documents": documents[skip:],
            "norms": batch.activations.float().norm(dim=-1).cpu().numpy()[skip:],
        }
        if firings is None:
            row["acts"] = batch.activations[skip:].cpu()
        else:
            token = firings.token.cpu().numpy() - skip * length
            kept = token >= 0
            counts = np.bincount(token[kept], minlength=(contexts - skip) * length)
            if counts.max(initial=0) > np.iinfo(np.uint16).max:
                raise InputError(
                    "more than 65,535 features fire on one token: store the cache dense"
                )
            row["counts"] = counts.astype(np.uint16).reshape(-1, length)
            row["features"] = firings.feature.cpu().numpy()[kept].astype(np.int32)
            row["values"] = firings.value.cpu().numpy()[kept].astype(np.float32)
        self._rows.append(row)
        self._held_bytes += sum(part.nbytes for part in row.values())
        # Shards end where batches end, so that a resumed capture runs the same batches.
        if self._held_bytes >= SHARD_BYTES:
            with self._said():
                self._write_shard()

    def _write_shard(self) -> None:
        number = len(self._state.shards)
        file = self.partial / f"acts-{number:05d}.safetensors"
        rows, self._rows, self._held_bytes = self._rows, [], 0
        save_arrays(
            {name: np.concatenate([r[name] for r in rows]) for name in _TOKEN_PARTS},
            self._tokens_file(number),
        )
        if "acts" in rows[0]:
            save_file({"acts": torch.cat([r["acts"] for r in rows])}, file)
        else:
            self._state.firings += _save_firings(rows, file)
        contexts = sum(len(r["token_ids"]) for r in rows)
        self._state.shards.append(
            Shard(
                file=file.name,
                first_context=self.written,
                contexts=contexts,
                bytes=file.stat().st_size,
                sha256=file_sha256(file),
            )
        )
        with atomic_path(self.partial / _STATE) as temporary:
            temporary.write_text(self._state.model_dump_json())

    def finish(self, about: Manifest) -> Manifest:
        """Write the last shard, tokens and manifest, and move the cache to its place.

        `about` is what is known before: its counts, norms and shards are filled in here. Raises
        AutointerpError where nothing can be written, or most activations are not finite.
        """
        with self._said():
            return self._finish(about)

    def _finish(self, about: Manifest) -> Manifest:
        if self._rows:
            self._write_shard()
        shards = self._state.shards
        parts = [load_arrays(self._tokens_file(i)) for i in range(len(shards))]
        tokens = {name: np.concatenate([p[name] for p in parts]) for name in _TOKEN_PARTS}
        save_arrays(tokens, self.partial / TOKENS_FILE)
        valid = (tokens["mask"] & VALID) != 0
        not_finite = int((valid & ((tokens["mask"] & NOT_FINITE) != 0)).sum())
        check_finite(not_finite, int(valid.sum()), str(self.path))
        norms = tokens["norms"][valid].astype(np.float64)
        norms = norms[np.isfinite(norms)]
        manifest = about.model_copy(
            update={
                "contexts": self.written,
                "tokens": int(valid.sum()),
                "not_finite": not_finite,
                "documents": len(np.unique(tokens["documents"][valid])),
                "norms": Norms(
                    sample_median=self._state.norms[0],
                    sample_mean=self._state.norms[1],
                    median=float(np.median(norms)),
                    mean=float(norms.mean()),
                    p999=float(np.quantile(norms, 0.999)),
                ),
                "shards": shards,
            }
        )
        if manifest.sparse is not None:
            manifest.sparse.firings = self._state.firings
        (self.partial / FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
        # safetensors makes files that only their owner may read; caches are shared.
        mode = (self.partial / FILE).stat().st_mode
        for file in self.partial.glob("*.safetensors"):
            file.chmod(mode)
        if self.path.exists():
            shutil.rmtree(self.path)
        os.replace(self.partial, self.path)
        for leftover in (_STATE, *(self._tokens_file(i).name for i in range(len(shards)))):
            (self.path / leftover).unlink()
        return manifest


def _save_firings(rows: list[_Row], file: Path) -> int:
    names = ("counts", "features", "values")
    joined = {name: np.concatenate([r[name] for r in rows]) for name in names}
    if joined["features"].max(initial=0) <= np.iinfo(np.uint16).max:
        joined["features"] = joined["features"].astype(np.uint16)
    save_arrays(joined, file)
    return len(joined["values"])
