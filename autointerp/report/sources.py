"""What a cache holds and lacks, and how an SAE fits it, on a terminal."""

from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.activations.activation_batch import NOT_FINITE, OUTLIER, SPECIAL, UNCOUNTED
from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.activations.formats import find_cache
from autointerp.coders import SparseCoder
from autointerp.coders.check import Diagnosis
from autointerp.plain_text import line_for_person

_UNKNOWN = Text("unknown", style="dim")


def print_facts(console: Console, facts: Mapping[str, str | None]) -> None:
    """Names and values, one a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, _UNKNOWN if value is None else Text(line_for_person(value)))
    console.print(table)


def _size(path: Path) -> str:
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    return f"{sum(f.stat().st_size for f in files) / 1e6:,.1f} MB in {len(files)} files"


def print_cache(path: Path, console: Console) -> None:
    """Raises AutointerpError where there is no cache at `path`."""
    cache = find_cache(path)
    origin = cache.origin
    kind = "activations" if isinstance(cache, DenseCache) else "feature activations"
    facts: dict[str, str | None] = {
        "cache": str(cache.path),
        "format": f"{cache.format}, {kind}"
        + (f", by {origin.producer}" if origin.producer else ""),
        "size": _size(cache.path),
        "contexts": f"{cache.contexts:,} of {cache.context_length} tokens",
        "tokens": f"{cache.tokens:,} without padding",
    }
    if isinstance(cache, DenseCache):
        facts["width"] = f"{cache.d_in:,} {str(cache.dtype).removeprefix('torch.')}"
        facts["norm"] = f"median {cache.norms.median:.4g}, mean {cache.norms.mean:.4g}"
    else:
        facts["features"] = f"{cache.features:,}"
        facts["SAE"] = origin.coder
    if cache.mask_is_whole:
        facts["masked"] = ", ".join(
            f"{int(((cache.mask & bit) != 0).sum()):,} {name}"
            for name, bit in (
                ("special", SPECIAL),
                ("norm outliers", OUTLIER),
                ("not finite", NOT_FINITE),
                ("in other turns", UNCOUNTED),
            )
        )
    facts |= {
        "subject": origin.subject,
        "hook": origin.hook,
        "text": origin.text,
        "packing": origin.packing,
        "bos": origin.bos,
    }
    print_facts(console, facts)
    for lack in lacks(cache):
        console.print(Text(line_for_person(f"lacks {lack}")), style="yellow", soft_wrap=True)


def lacks(cache: DenseCache | SparseCache) -> list[str]:
    """What is not in the cache, and what to do about it."""
    found = []
    if cache.token_ids is None:
        found.append("token ids: pass them with --token-ids FILE (.npy or .safetensors)")
    if cache.vocabulary is None:
        named = cache.origin.tokenizer or cache.origin.subject
        how = f"that of {named} is used" if named else "pass the model with --subject"
        found.append(f"a tokenizer: {how}")
    if not cache.has_padding_mask:
        found.append("a padding mask: every token is taken for text")
    if isinstance(cache, SparseCache):
        if not cache.mask_is_whole:
            found.append("norms: attention sinks cannot be detected and masked")
    elif cache.origin.hook is None:
        found.append("its hook point: it cannot be compared with the SAE's by name")
    return found


def _describe(coder: SparseCoder) -> str:
    parts = [coder.activation if coder.k is None else f"{coder.activation} k={coder.k}"]
    parts.append(f"{coder.features:,} features of width {coder.d_in:,}")
    if coder.input_norm != "none":
        parts.append(f"input {coder.input_norm}")
    return ", ".join(parts)


def print_check(diagnosis: Diagnosis, console: Console) -> None:
    coder, check = diagnosis.coder, diagnosis.check
    facts: dict[str, str | None] = {}
    if coder is not None:
        facts["SAE"] = f"{coder.name}: {_describe(coder)}"
        facts["its hook"] = coder.hook
        for note in coder.notes:
            facts["note"] = note
        finite = all(bool(torch.isfinite(t).all()) for t in (coder.encoder, coder.bias))
        facts["weights"] = "finite, shapes and orientation agree" if finite else "not finite"
    facts["read at"] = diagnosis.hook
    if check is not None:
        facts["tokens"] = f"{check.tokens:,} unmasked tokens of the first batch"
        declared = "" if check.expected_l0 is None else f" (declared {check.expected_l0:.3g})"
        facts["L0"] = f"mean L0 {check.l0:.3g}{declared}"
        facts["FVU"] = (
            "unknown: it does not reconstruct its input"
            if check.fvu is None
            else f"{check.fvu:.3g} of the variance unexplained"
        )
    print_facts(console, facts)
    if diagnosis.layers:
        table = Table(box=None, pad_edge=False)
        for name in ("layer", "L0", "FVU"):
            table.add_column(name, justify="right")
        for found in diagnosis.layers:
            table.add_row(str(found.layer), f"{found.l0:.3g}", f"{found.fvu:.3g}")
        console.print(table)
    for warning in diagnosis.warnings:
        console.print(Text(line_for_person(f"warning: {warning}")), style="yellow", soft_wrap=True)
