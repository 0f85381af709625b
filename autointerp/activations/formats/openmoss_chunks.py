"""OpenMOSS's activation chunks: `chunk-00000000.safetensors` with activations and their tokens.

Keys: `activation` [contexts, length, d], `tokens`, `mask` [contexts, length]; the mask leaves out
padding and the beginning-of-text token by their ids, so real ones in the middle of a text too.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autointerp.activations.activation_batch import SPECIAL, VALID
from autointerp.activations.cache import DenseCache, Origin
from autointerp.activations.cache_format import CacheFormat
from autointerp.errors import InputError
from autointerp.storage.files import files_identity
from autointerp.storage.tensor_files import read_pickled, read_safetensors

_NAME = re.compile(r"(?:shard-(\d+)-)?chunk-(\d+)\.(?:safetensors|pt)")
_KEYS = ("activation", "tokens", "mask", "attention_mask")


def _chunks(path: Path) -> list[Path]:
    found = []
    for file in path.iterdir() if path.is_dir() else ():
        name = _NAME.fullmatch(file.name)
        if name:
            found.append((int(name[2]), int(name[1] or 0), file))
    return [file for _, _, file in sorted(found)]


def matches(path: Path) -> bool:
    return bool(_chunks(path))


def load(path: Path) -> DenseCache:
    """Raises AutointerpError for chunks that are damaged, differ in shape or hold single tokens."""
    files = _chunks(path)
    token_ids: list[Tensor] = []
    masks: list[Tensor] = []
    starts = [0]
    masked = 0
    d_in, dtype = 0, torch.float32
    for file in files:
        chunk = _read(file)
        activation = _activation(chunk, file)
        contexts, length, width = activation.shape
        if d_in not in (0, width):
            raise InputError(f"{file}: activations have width {width}, those of other files {d_in}")
        d_in = width
        dtype = activation.dtype
        tokens, mask = chunk.get("tokens"), chunk.get("mask", chunk.get("attention_mask"))
        for name, tensor in (("tokens", tokens), ("mask", mask)):
            if isinstance(tensor, Tensor) and tensor.shape != (contexts, length):
                raise InputError(
                    f"{file}: {name} has shape {tuple(tensor.shape)}, not {(contexts, length)}"
                )
        if masks and masks[0].shape[1] != length:
            raise InputError(
                f"{file}: contexts have {length} tokens, those of other files {masks[0].shape[1]}"
            )
        if isinstance(tokens, Tensor):
            token_ids.append(tokens.int())
        kept = mask.bool() if isinstance(mask, Tensor) else torch.ones(contexts, length).bool()
        masked += isinstance(mask, Tensor)
        masks.append(_mask(kept, tokens))
        starts.append(starts[-1] + contexts)

    def read(begin: int, end: int) -> Tensor:
        parts = []
        for i, file in enumerate(files):
            low, high = max(begin - starts[i], 0), min(end, starts[i + 1]) - starts[i]
            if low < high:
                parts.append(_activation(_read(file), file)[low:high])
        return torch.cat(parts)

    return DenseCache(
        path=path,
        format="openmoss",
        origin=Origin(hook=path.name, producer="OpenMOSS ActivationWriter"),
        identity=files_identity(files),
        shape=(starts[-1], masks[0].shape[1]),
        token_ids=torch.cat(token_ids) if len(token_ids) == len(files) else None,
        mask=torch.cat(masks),
        has_padding_mask=masked == len(files),
        d_in=d_in,
        dtype=dtype,
        read=read,
    )


def _read(file: Path) -> dict[str, Any]:
    return read_pickled(file) if file.suffix == ".pt" else dict(read_safetensors(file, *_KEYS))


def _activation(chunk: dict[str, Any], file: Path) -> Tensor:
    found = chunk.get("activation")
    if not isinstance(found, Tensor) or found.ndim < 3:
        raise InputError(
            f"{file} does not hold activations [contexts, length, width]; chunks of "
            "single tokens cannot be used, since they have no contexts"
        )
    return found.flatten(0, -3)


def _mask(kept: Tensor, tokens: Tensor | None) -> Tensor:
    """What was left out at either end is padding; within, or as the first word, a special token.

    kept: bool [contexts, length] → uint8, the same shape.
    """
    inner = kept.int()
    after_first = inner.cummax(1).values.bool()
    before_last = inner.flip(1).cummax(1).values.flip(1).bool()
    valid = after_first & before_last
    first = inner.argmax(1)
    rows = (first > 0).nonzero().flatten()
    lead = first[rows] - 1
    # The token just before the text is its beginning-of-text token, unless padding goes on in it.
    is_bos = lead == 0
    if tokens is not None:
        is_bos = is_bos | (tokens[rows, lead] != tokens[rows, (lead - 1).clamp(min=0)])
    valid[rows[is_bos], lead[is_bos]] = True
    return (valid * VALID + (valid & ~kept) * SPECIAL).byte()


CACHE_FORMAT = CacheFormat(
    name="openmoss",
    about="OpenMOSS's activation chunks, with their tokens",
    matches=matches,
    load=load,
    order=40,
)
