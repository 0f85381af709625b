"""Where each site is in a decoder layer, inferred from the architecture's module names.

`attn_out` and `mlp_out` are what the layer adds to its residual stream, which is not always what
its attention or MLP returns: a norm may follow, or a multiplier, or the module adds the residual
itself. `residual.py` checks on real activations that what is found here adds up.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

Side = Literal["input", "output"]

# Raised by hand when a site comes to mean another module in some architecture: caches of it and
# what was made from them are then made anew.
SITES_VERSION = 2

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_ATTENTION_OUTPUT = ("o_proj", "c_proj", "dense", "out_proj")
_MLP = ("mlp", "feed_forward", "block_sparse_moe", "ffn", "shared_mlp")
_MLP_OUTPUT = ("down_proj", "c_proj", "dense_4h_to_h", "fc2")
# What attention or MLP return goes through these, and then into the residual.
_AFTER_ATTENTION = (
    *("post_self_attn_layernorm", "post_operator_norm", "post_norm1", "attn_sconv"),
)
_AFTER_MLP = (
    *("post_feedforward_layernorm", "post_mlp_layernorm", "post_ffn_norm", "post_norm2"),
    "mlp_sconv",
)
# The norm before the MLP, which reads the residual between attention and MLP.
_MLP_PRE_NORMS = (
    *("pre_feedforward_layernorm", "pre_mlp_layernorm", "pre_ff_layernorm"),
    *("feedforward_layernorm", "ln_2", "ffn_norm", "norm_2"),
)
# This one norms what attention returns in some architectures, and what the MLP reads in others.
_AMBIGUOUS_NORM = "post_attention_layernorm"
_RESIDUAL_SCALES = ("residual_multiplier", "residual_scale")


@dataclass(frozen=True)
class Site:
    """A module below a layer and its side, times `scale` where the layer multiplies it."""

    inside: str
    side: Side
    scale: float = 1.0


def site_in_layer(layer: nn.Module, site: str, parallel: bool) -> Site | None:
    """Where `site` is in this layer, None where it is not one module's input or output.

    `parallel`: attention and MLP read the same residual, so that there is none between them.
    """
    has = {name for name, _ in layer.named_children()}
    match site:
        case "residual":
            return Site("", "output")
        case "resid_pre":
            return Site("", "input")
        case "attn_out":
            return _attention_output(layer, has)
        case "mlp_out":
            return _mlp_output(layer, has)
        case "hook_z":
            return _before_last(layer, _first(_ATTENTION, has), _ATTENTION_OUTPUT)
        case "mlp_post":
            mlp = _mlp(has)
            return _before_last(layer, mlp, _MLP_OUTPUT) if mlp else _if_there("fc2", "input", has)
        case "mlp_in":
            return _if_there(_mlp(has) or "fc1", "input", has)
        case _:
            return None if parallel else _between(has, site)


def _first(names: Sequence[str], has: set[str]) -> str | None:
    return next((name for name in names if name in has), None)


def _mlp(has: set[str]) -> str | None:
    """The layer's MLP, None where it has several whose outputs are added up (Granite hybrids)."""
    found = [name for name in _MLP if name in has]
    return found[0] if len(found) == 1 else None


def _if_there(name: str, side: Side, has: set[str]) -> Site | None:
    return Site(name, side) if name in has else None


def _norms_attention_output(has: set[str]) -> bool:
    """Whether the ambiguous norm follows attention, because another one precedes the MLP or none
    does and the MLP's output is normed too (OLMo 2)."""
    if _AMBIGUOUS_NORM not in has or _first(_AFTER_ATTENTION, has):
        return False
    return bool(_first(_MLP_PRE_NORMS, has)) or "post_feedforward_layernorm" in has


def _attention_output(layer: nn.Module, has: set[str]) -> Site | None:
    attention = _first(_ATTENTION, has)
    if attention is None:
        return None
    after = _first(_AFTER_ATTENTION, has)
    if after is None and _norms_attention_output(has):
        after = _AMBIGUOUS_NORM
    return _added(layer, after or attention, _ATTENTION_OUTPUT)


def _mlp_output(layer: nn.Module, has: set[str]) -> Site | None:
    # OPT and XGLM have the MLP's two matrices in the layer itself.
    name = _first(_AFTER_MLP, has) or _mlp(has) or _first(("fc2",), has)
    return _added(layer, name, _MLP_OUTPUT) if name else None


def _added(layer: nn.Module, name: str, last: Sequence[str]) -> Site | None:
    """What the layer adds to its residual, where `name` is the last module that works on it."""
    module = layer.get_submodule(name)
    if "residual" in inspect.signature(module.forward).parameters:
        # It is given the residual and adds it itself (BLOOM, MPT).
        inner = _first(last, {child for child, _ in module.named_children()})
        if inner is None:
            return None
        name = f"{name}.{inner}"
    return Site(name, "output", _residual_scale(layer))


def _residual_scale(layer: nn.Module) -> float:
    for name in _RESIDUAL_SCALES:
        scale = getattr(layer, name, None)
        if isinstance(scale, int | float):
            return float(scale)
    return 1.0


def _before_last(layer: nn.Module, name: str | None, last: Sequence[str]) -> Site | None:
    """The input of a module's last matrix."""
    if name is None:
        return None
    children = {child for child, _ in layer.get_submodule(name).named_children()}
    inner = _first(last, children)
    return Site(f"{name}.{inner}", "input") if inner else None


def _between(has: set[str], site: str) -> Site | None:
    """`resid_mid`, and `normalized` of it: what the norm before the MLP reads."""
    norm = _first(_MLP_PRE_NORMS, has)
    if norm is None and not _norms_attention_output(has):
        norm = _AMBIGUOUS_NORM if _AMBIGUOUS_NORM in has else None
    if norm is None and site == "resid_mid" and "post_feedforward_layernorm" in has:
        norm = "mlp"  # which no norm precedes
    return _if_there(norm, "input", has) if norm else None
