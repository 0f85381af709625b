"""Resolves hook names to hook points of a transformers model, and runs a model up to them.

A hook point is the input or the output of a module. It is named as SAELens and TransformerLens do
(`blocks.20.hook_resid_post`), in short (`residual:20`), or by its module (`model.layers.20.mlp`,
`layers.20.mlp.input`). A module's name means exactly what that module takes or gives, the other
names a site of a layer (`sites.py`).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autointerp.activations.sites import Side, site_in_layer
from autointerp.errors import ConfigurationError

# TransformerLens's names of places in a layer, and ours.
_LENS_NAMES = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_mlp_in": "resid_mid",
    "hook_resid_post": "residual",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "hook_z",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_post": "mlp_post",
    "ln2.hook_normalized": "normalized",
}
SITES = tuple(dict.fromkeys(_LENS_NAMES.values()))
_SHORT = re.compile(rf"({'|'.join(SITES)}):(\d+)")
_LENS = re.compile(r"blocks\.(\d+)\.(.+)")
_LAYER_PATHS = ("layers", "h", "blocks", "language_model.layers", "decoder.layers")


@dataclass(frozen=True)
class Hook:
    """A hook point: the input or the output of `module`, which the model has at `path`."""

    name: str
    path: str
    module: nn.Module
    side: Side = "output"
    normalized: bool = False  # as its norm leaves it before the gain
    scale: float = 1.0  # what the layer multiplies it by before it is added to the residual


# Layers as modules, under the names that the architectures give them.
_LAYER_MODULE = re.compile(
    r"(?:model\.|transformer\.|gpt_neox\.|language_model\.)*(?:layers|h)\.(\d+)"
    r"(?:\.(mlp|self_attn|attn))?(?:\.(input|output))?"
)
_MODULE_SITES = {
    (None, "input"): "resid_pre",
    (None, "output"): "residual",
    ("mlp", "input"): "mlp_in",
    ("mlp", "output"): "mlp_out",
    ("self_attn", "output"): "attn_out",
    ("attn", "output"): "attn_out",
}


def canonical_place(name: str) -> tuple[str, int] | None:
    """(site, layer) that a hook's name means whatever the architecture, None where it depends."""
    module = _LAYER_MODULE.fullmatch(name)
    if module is None:
        return site_of(name)
    site = _MODULE_SITES.get((module[2], module[3] or "output"))
    return None if site is None else (site, int(module[1]))


class _Reached(Exception):
    """Raised by the last hook to end the forward pass: what follows it is not needed."""


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The model's layers and the path they have in it. Raises AutointerpError."""
    base: str = getattr(model, "base_model_prefix", "")
    for prefix in dict.fromkeys(("", "model.", "transformer.", f"{base}.".lstrip("."))):
        for path in _LAYER_PATHS:
            with suppress(AttributeError):
                found = model.get_submodule(prefix + path)
                if isinstance(found, nn.ModuleList):
                    return prefix + path, found
    raise ConfigurationError(
        f"{type(model).__name__}: no decoder layers found; give the hook point by its module path"
    )


def site_of(name: str) -> tuple[str, int] | None:
    """(site, layer) of a hook that is named by them, None for a module's name."""
    short = _SHORT.fullmatch(name)
    if short:
        return short[1], int(short[2])
    lens = _LENS.fullmatch(name)
    if lens and lens[2] in _LENS_NAMES:
        return _LENS_NAMES[lens[2]], int(lens[1])
    return None


def lens_name(name: str) -> str:
    """TransformerLens's name of a hook point, which SAELens's files use; a module's stays."""
    place = site_of(name)
    if place is None:
        return name
    names = {site: lens for lens, site in reversed(_LENS_NAMES.items())}
    return f"blocks.{place[1]}.{names[place[0]]}"


def resolve_hook(model: nn.Module, name: str) -> Hook:
    """The hook point that a name refers to in this model.

    Raises AutointerpError for a name, a layer or a site that the model does not have.
    """
    place = site_of(name)
    if place is None:
        return _module_hook(model, name)
    site, number = place
    path, layers = decoder_layers(model)
    if number >= len(layers):
        raise ConfigurationError(
            f"hook {name}: the model has layers 0 to {len(layers) - 1}, not {number}"
        )
    layer = layers[number]
    parallel = bool(getattr(getattr(model, "config", None), "use_parallel_residual", False))
    found = site_in_layer(layer, site, parallel)
    if found is None:
        parts = ", ".join(child for child, _ in layer.named_children())
        raise ConfigurationError(
            f"hook {name}: layer {number} of {type(model).__name__} has no {site} (it "
            f"has {parts}); give a module path instead"
        )
    module = layer.get_submodule(found.inside)
    where = f"{path}.{number}.{found.inside}".rstrip(".")
    return Hook(name, where, module, found.side, site == "normalized", found.scale)


def _module_hook(model: nn.Module, name: str) -> Hook:
    path, side = name, "output"
    for suffix in ("input", "output"):
        if name.endswith("." + suffix):
            path, side = name.removesuffix("." + suffix), suffix
    # Delphi and sparsify name modules from the base model, which the causal model holds.
    base: str = getattr(model, "base_model_prefix", "")
    for candidate in (path, f"{base}.{path}"):
        with suppress(AttributeError):
            module = model.get_submodule(candidate)
            return Hook(name, candidate, module, "input" if side == "input" else "output")
    raise ConfigurationError(
        f"hook {name} is not a hook point of {type(model).__name__}: it is neither a "
        f"site of a layer ({', '.join(f'{s}:N' for s in SITES)}) nor a "
        "TransformerLens name (blocks.N.hook_resid_post, …) nor a module path"
    )


def _without_gain(x: Tensor, norm: nn.Module) -> Tensor:
    """x as the norm leaves it before its gain and bias: RMSNorm, or LayerNorm."""
    x = x.float()
    if isinstance(norm, nn.LayerNorm):
        return nn.functional.layer_norm(x, x.shape[-1:], eps=norm.eps)
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 1e-6))
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _tokens_tensor(value: object, hook: Hook, contexts: int, length: int) -> Tensor:
    """The activations in what a module was given or gave: [contexts, length, d]."""
    # Layers give a tensor in newer releases of transformers and a tuple in older ones; attention
    # and mixtures of experts give a tuple in all, GPT's first version a list.
    found = value[0] if isinstance(value, tuple | list) else value
    if isinstance(found, Tensor) and found.ndim == 2 and len(found) == contexts * length:
        found = found.view(contexts, length, -1)
    if isinstance(found, Tensor) and found.ndim == 4:
        found = found.flatten(2)  # heads × head width
    if not isinstance(found, Tensor) or found.shape[:2] != (contexts, length) or found.ndim != 3:
        raise ConfigurationError(
            f"hook {hook.name}: the output of {hook.path} is not activations of tokens"
        )
    found = found.detach()
    if hook.normalized:
        return _without_gain(found, hook.module)
    # A copy: what follows in the pass may write to the same memory (Falcon adds in place).
    return found * hook.scale if hook.scale != 1 else found.clone()


@contextmanager
def _catching(
    hooks: Sequence[Hook], caught: dict[int, Tensor], contexts: int, length: int
) -> Iterator[None]:
    def keep(number: int, value: object) -> None:
        caught[number] = _tokens_tensor(value, hooks[number], contexts, length)
        if len(caught) == len(hooks):
            raise _Reached

    def listen(number: int, hook: Hook) -> torch.utils.hooks.RemovableHandle:
        if hook.side == "input":

            def before(_module: nn.Module, args: tuple, kwargs: dict) -> None:  # type: ignore[type-arg]
                keep(number, args[0] if args else kwargs.get("hidden_states"))

            return hook.module.register_forward_pre_hook(before, with_kwargs=True)

        def after(_module: nn.Module, _args: object, output: object) -> None:
            keep(number, output)

        return hook.module.register_forward_hook(after)

    handles = [listen(number, hook) for number, hook in enumerate(hooks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def activations_at(
    model: nn.Module, hooks: Sequence[Hook], token_ids: Tensor, valid: Tensor
) -> list[Tensor]:
    """One forward pass, up to the last of the hooks.

    token_ids, valid: [contexts, length] → for every hook [contexts, length, d]. Raises
    AutointerpError where a hook is not reached or its module gives something else.
    """
    caught: dict[int, Tensor] = {}
    with _catching(hooks, caught, *token_ids.shape), suppress(_Reached):
        model(input_ids=token_ids.long(), attention_mask=valid.long(), use_cache=False)
    for number, hook in enumerate(hooks):
        if number not in caught:
            raise ConfigurationError(
                f"hook {hook.name}: the forward pass never reached {hook.path}"
            )
    return [caught[number] for number in range(len(hooks))]
