"""Native caches for tests, written by the product's own writer."""

from pathlib import Path

import numpy as np
import torch

from autointerp.activations.activation_batch import (
    SPECIAL,
    VALID,
    ActivationBatch,
    norm_bits,
    norm_sample,
    sampled_contexts,
)
from autointerp.activations.manifest import Manifest, Norms, SparseContent
from autointerp.activations.writer import CacheWriter
from autointerp.coders import SparseCoder
from autointerp.vocabulary import Vocabulary


def about(d_in: int, context_length: int, **changes) -> Manifest:
    known = Manifest(
        producer="tests",
        made_from="tests",
        subject="planted",
        subject_revision=None,
        tokenizer="planted",
        tokenizer_sha256=None,
        hook="none",
        hook_module="none",
        hook_side="output",
        d_in=d_in,
        dtype="float32",
        context_length=context_length,
        contexts=0,
        tokens=0,
        text="planted",
        documents=0,
        packing="documents",
        bos="none",
        turns="all",
        special_token_ids=[],
        pad_id=0,
        norms=Norms(sample_median=0, sample_mean=0, median=0, mean=0, p999=0),
        shards=[],
    )
    return known.model_copy(update=changes)


def batch_of(
    token_ids: torch.Tensor,
    activations: torch.Tensor,
    valid: torch.Tensor | None = None,
    special: tuple[int, ...] = (),
    first: int = 0,
) -> ActivationBatch:
    valid = torch.ones_like(token_ids, dtype=torch.bool) if valid is None else valid
    norms = activations.float().norm(dim=-1)
    rows = sampled_contexts(token_ids.shape[1])
    median = norm_sample(norms[:rows], valid[:rows]).median
    is_special = torch.isin(token_ids, torch.tensor(special, dtype=torch.int32))
    mask = valid * VALID + (valid & is_special) * SPECIAL
    mask = mask.byte() | norm_bits(norms, valid, median)
    return ActivationBatch(first, token_ids.int(), mask.byte(), activations)


def write_cache(
    path: Path,
    token_ids: torch.Tensor,
    activations: torch.Tensor,
    vocabulary: Vocabulary,
    *,
    valid: torch.Tensor | None = None,
    batch_contexts: int = 64,
    encoded_by: SparseCoder | None = None,
    identity: str = "",
    **changes,
) -> Manifest:
    """token_ids: [contexts, length]; activations: [contexts, length, d_in]. Sparse if encoded."""
    whole = batch_of(token_ids, activations, valid, tuple(sorted(vocabulary.special_ids)))
    writer = CacheWriter(path, "tests")
    rows = sampled_contexts(token_ids.shape[1])
    sample = (whole.mask & VALID) != 0
    writer.begin(norm_sample(activations.float().norm(dim=-1)[:rows], sample[:rows]))
    for begin in range(0, len(token_ids), batch_contexts):
        part = slice(begin, begin + batch_contexts)
        batch = ActivationBatch(begin, whole.token_ids[part], whole.mask[part], activations[part])
        documents = np.repeat(
            np.arange(len(token_ids), dtype=np.int32)[part, None], token_ids.shape[1], axis=1
        )
        firings = encoded_by.encode(batch.activations.flatten(0, 1)) if encoded_by else None
        writer.add(batch, documents, firings)
    vocabulary.save(writer.partial / "vocabulary.parquet")
    if encoded_by is not None:
        changes["sparse"] = SparseContent(
            coder=encoded_by.name, coder_identity=identity, features=encoded_by.features, firings=0
        )
    dtype = "bfloat16" if activations.dtype == torch.bfloat16 else "float32"
    known = about(activations.shape[-1], token_ids.shape[1], dtype=dtype, **changes)
    return writer.finish(known)
