"""Hook names to modules of a transformers model, and running a model up to a hook."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autointerp.errors import UserError

# Where the decoder layers live, by architecture family (Llama-like, GPT-2, NeoX, multimodal).
_LAYER_PATHS = ("model.layers", "transformer.h", "gpt_neox.layers", "model.language_model.layers")
_RESIDUAL = re.compile(r"(?:residual:|blocks\.)(\d+)(?:\.hook_resid_post)?")


@dataclass(frozen=True)
class Hook:
    """A place in a model: the output of the module at `path`."""

    name: str
    path: str
    module: nn.Module


class _Reached(Exception):
    """Raised by the hook to end the forward pass: what follows it is not needed."""


def _layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    for path in _LAYER_PATHS:
        try:
            found = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList):
            return path, found
    raise UserError(
        f"{type(model).__name__}: no decoder layers found; name the hook by its module path"
    )


def resolve_hook(model: nn.Module, name: str) -> Hook:
    """The module of `residual:20`, `blocks.20.hook_resid_post` or a module path of the model.

    Raises UserError for a name or a layer that the model does not have.
    """
    match = _RESIDUAL.fullmatch(name)
    if match:
        path, layers = _layers(model)
        layer = int(match[1])
        if layer >= len(layers):
            raise UserError(
                f"hook {name}: the model has layers 0 to {len(layers) - 1}, there is no {layer}"
            )
        return Hook(name, f"{path}.{layer}", layers[layer])
    try:
        module = model.get_submodule(name)
    except AttributeError:
        raise UserError(
            f"hook {name}: neither residual:N, blocks.N.hook_resid_post nor a module of "
            f"{type(model).__name__}"
        ) from None
    return Hook(name, name, module)


@contextmanager
def _catching(hook: Hook, caught: list[Tensor]) -> Iterator[None]:
    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        # Decoder layers return a tensor in newer releases of transformers, a tuple in older ones.
        hidden = output[0] if isinstance(output, tuple) else output
        if not isinstance(hidden, Tensor) or hidden.ndim != 3:
            raise UserError(f"hook {hook.name}: {hook.path} gives no activations of tokens")
        caught.append(hidden.detach())
        raise _Reached

    handle = hook.module.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def activations_at(model: nn.Module, hook: Hook, token_ids: Tensor, valid: Tensor) -> Tensor:
    """Run the model up to the hook: token_ids, valid [contexts, length] → [contexts, length, d]."""
    caught: list[Tensor] = []
    with _catching(hook, caught), suppress(_Reached):
        model(input_ids=token_ids.long(), attention_mask=valid.long(), use_cache=False)
    if not caught:
        raise UserError(f"hook {hook.name}: the forward pass never reached {hook.path}")
    return caught[0]
