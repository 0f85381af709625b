"""Hook names to places in a transformers model, and running a model up to them.

A place is the input or the output of a module. It is named as SAELens and TransformerLens do
(`blocks.20.hook_resid_post`), in short (`residual:20`), or by its module (`model.layers.20.mlp`,
`layers.20.mlp.input`).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from autointerp.errors import UserError

Side = Literal["input", "output"]

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
_ATTENTION = ("self_attn", "attn", "attention")
_ATTENTION_OUTPUT = ("o_proj", "c_proj", "dense", "out_proj")
_MLP_OUTPUT = ("down_proj", "c_proj", "dense_4h_to_h", "fc2")


@dataclass(frozen=True)
class Hook:
    """A place in a model: the input or the output of `module`, which the model has at `path`."""

    name: str
    path: str
    module: nn.Module
    side: Side = "output"
    normalized: bool = False  # as its norm leaves it before the gain


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
        return _site_of(name)
    site = _MODULE_SITES.get((module[2], module[3] or "output"))
    return None if site is None else (site, int(module[1]))


class _Reached(Exception):
    """Raised by the last hook to end the forward pass: what follows it is not needed."""


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The model's layers and the path they have in it. Raises UserError."""
    for prefix in ("", "model.", "transformer.", "gpt_neox."):
        for path in _LAYER_PATHS:
            with suppress(AttributeError):
                found = model.get_submodule(prefix + path)
                if isinstance(found, nn.ModuleList):
                    return prefix + path, found
    raise UserError(
        f"{type(model).__name__}: no decoder layers found; name the hook by its module path"
    )


def _first_of(module: nn.Module, names: Sequence[str]) -> str | None:
    has = {name for name, _ in module.named_children()}
    return next((name for name in names if name in has), None)


def _place_in_layer(layer: nn.Module, site: str, parallel: bool) -> tuple[str, Side] | None:
    """The module below a layer, and its side, that is `site`; None where there is none.

    Gemma 2 and 3 (and OLMo 2) norm what attention and MLP write before it is added to the
    residual: what is added is then the output of that norm.
    """
    has = {name for name, _ in layer.named_children()}
    norms_outputs = "post_feedforward_layernorm" in has
    if site in ("residual", "resid_pre"):
        return "", "output" if site == "residual" else "input"
    if site == "mlp_in":
        return ("mlp", "input") if "mlp" in has else None
    if site == "mlp_post":
        last = _first_of(layer.get_submodule("mlp"), _MLP_OUTPUT) if "mlp" in has else None
        return (f"mlp.{last}", "input") if last else None
    if site == "mlp_out":
        name = "post_feedforward_layernorm" if norms_outputs else "mlp"
        return (name, "output") if name in has else None
    if site in ("attn_out", "hook_z"):
        attention = _first_of(layer, _ATTENTION)
        if attention is None:
            return None
        if site == "attn_out":
            return "post_attention_layernorm" if norms_outputs else attention, "output"
        last = _first_of(layer.get_submodule(attention), _ATTENTION_OUTPUT)
        return (f"{attention}.{last}", "input") if last else None
    if parallel:
        return None
    norm = "pre_feedforward_layernorm" if norms_outputs else "post_attention_layernorm"
    norm = norm if norm in has else "ln_2"
    if norm in has:
        return norm, "input"
    return ("mlp", "input") if norms_outputs and site == "resid_mid" and "mlp" in has else None


def _site_of(name: str) -> tuple[str, int] | None:
    short = _SHORT.fullmatch(name)
    if short:
        return short[1], int(short[2])
    lens = _LENS.fullmatch(name)
    if lens and lens[2] in _LENS_NAMES:
        return _LENS_NAMES[lens[2]], int(lens[1])
    return None


def resolve_hook(model: nn.Module, name: str) -> Hook:
    """The place that a hook's name means in this model.

    Raises UserError for a name, a layer or a place in a layer that the model does not have.
    """
    place = _site_of(name)
    if place is None:
        return _module_hook(model, name)
    site, number = place
    path, layers = decoder_layers(model)
    if number >= len(layers):
        raise UserError(
            f"hook {name}: the model has layers 0 to {len(layers) - 1}, there is no {number}"
        )
    layer = layers[number]
    parallel = bool(getattr(getattr(model, "config", None), "use_parallel_residual", False))
    found = _place_in_layer(layer, site, parallel)
    if found is None:
        parts = ", ".join(child for child, _ in layer.named_children())
        raise UserError(
            f"hook {name}: layer {number} of {type(model).__name__} has no {site} (it has "
            f"{parts}); name a module path instead"
        )
    inside, side = found
    module = layer.get_submodule(inside)
    where = f"{path}.{number}.{inside}".rstrip(".")
    return Hook(name, where, module, side, normalized=site == "normalized")


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
    raise UserError(
        f"hook {name}: no place in a layer ({', '.join(f'{s}:N' for s in SITES)}), no "
        f"TransformerLens name (blocks.N.hook_resid_post, …) and no module of "
        f"{type(model).__name__}"
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
    # and mixtures of experts give a tuple in all.
    found = value[0] if isinstance(value, tuple) else value
    if isinstance(found, Tensor) and found.ndim == 2 and len(found) == contexts * length:
        found = found.view(contexts, length, -1)
    if isinstance(found, Tensor) and found.ndim == 4:
        found = found.flatten(2)  # heads × head width
    if not isinstance(found, Tensor) or found.shape[:2] != (contexts, length) or found.ndim != 3:
        raise UserError(f"hook {hook.name}: {hook.path} gives no activations of tokens")
    found = found.detach()
    return _without_gain(found, hook.module) if hook.normalized else found


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

    token_ids, valid: [contexts, length] → for every hook [contexts, length, d]. Raises UserError
    where a hook is not reached or its module gives something else.
    """
    caught: dict[int, Tensor] = {}
    with _catching(hooks, caught, *token_ids.shape), suppress(_Reached):
        model(input_ids=token_ids.long(), attention_mask=valid.long(), use_cache=False)
    for number, hook in enumerate(hooks):
        if number not in caught:
            raise UserError(f"hook {hook.name}: the forward pass never reached {hook.path}")
    return [caught[number] for number in range(len(hooks))]
