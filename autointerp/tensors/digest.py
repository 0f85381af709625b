"""What tensors, arrays and settings are known by: a hash of their content."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def digest_of(tensors: Mapping[str, Tensor | None], **settings: Any) -> str:
    """Of named tensors, on whatever device, and of settings that are text or numbers."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        if tensor is None:
            continue
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            whole = tensor.detach().cpu().contiguous()
            digest.update(whole.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
