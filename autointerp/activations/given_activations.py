"""Activations that are in memory, in a cache's place."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autointerp.activations.activation_batch import VALID
from autointerp.activations.cache import DenseCache, Origin
from autointerp.errors import InputError
from autointerp.held import name_held
from autointerp.tensors.digest import digest_of

Numbers = Tensor | np.ndarray


def given_activations(
    activations: Any, token_ids: Any, mask: Any = None, hook: str | None = None
) -> DenseCache:
    """activations: [contexts, length, d]; token_ids and mask: [contexts, length].

    mask is true where a token is none of padding; without it all are. Raises InputError.
    """
    for name, given in (("activations", activations), ("token_ids", token_ids)):
        if not isinstance(given, Numbers):
            raise InputError(f"{name} is a {type(given).__name__}: give a tensor or an array")
    values = torch.as_tensor(activations).detach()
    ids = torch.as_tensor(token_ids).detach()
    if values.ndim != 3 or not values.is_floating_point():
        raise InputError(
            f"activations are {values.dtype} {tuple(values.shape)}: give floating point numbers "
            "[contexts, length, d]"
        )
    shape = (int(values.shape[0]), int(values.shape[1]))
    if tuple(ids.shape) != shape or ids.is_floating_point() or bool((ids < 0).any()):
        raise InputError(
            f"token_ids are {ids.dtype} {tuple(ids.shape)}: give ids of 0 or more, {shape} as the "
            "activations have it"
        )
    valid = torch.ones(shape, dtype=torch.bool)
    if mask is not None:
        valid = torch.as_tensor(mask).detach().cpu().bool()
        if tuple(valid.shape) != shape:
            raise InputError(f"mask is {tuple(valid.shape)}: give {shape}, as the activations are")
    if not bool(valid.any()):
        raise InputError("the activations are of no token: nothing can be collected from them")
    ids = ids.cpu().int()
    digest = digest_of({"activations": values, "token_ids": ids, "mask": valid})

    def read(begin: int, end: int) -> Tensor:
        return values[begin:end].cpu()

    return DenseCache(
        path=Path(name_held("activations", digest)),
        format="memory",
        origin=Origin(hook=hook),
        identity=digest,
        shape=shape,
        token_ids=ids,
        mask=valid.byte() * VALID,
        has_padding_mask=mask is not None,
        d_in=int(values.shape[2]),
        dtype=values.dtype,
        read=read,
    )
