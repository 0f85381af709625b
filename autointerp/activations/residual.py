"""Do the sites of a layer add up to its residual stream? Checked on real activations.

Architectures differ in what follows attention and MLP before their output is added: a norm, a
multiplier, another weight of the residual. Names of modules cannot tell of an architecture that
is new; the sum can.
"""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from autointerp.activations.hooks import Hook, activations_at, resolve_hook, site_of
from autointerp.errors import AutointerpError, ConfigurationError

CHECKED_SITES = ("attn_out", "mlp_out", "resid_mid")
# Each: what is added up, and the sum.
_SUMS = (
    (("resid_pre", "attn_out", "mlp_out"), "residual"),
    (("resid_pre", "attn_out"), "resid_mid"),
    (("resid_mid", "mlp_out"), "residual"),
)
_ROUNDINGS = 4.0  # of the coarsest data type, relative to all that is added up
_MAX_WRONG = 0.01  # share of values


def check_residual_sums(
    model: nn.Module, hooks: Sequence[Hook], token_ids: Tensor, valid: Tensor
) -> list[str]:
    """Raise AutointerpError where a hook is not what its layer adds to the residual stream.

    token_ids, valid: [contexts, length], a few of them, on which the model is run. A sum that
    holds vouches for all its terms; a module's name is taken at its word. → the names of hooks for
    which the model has no sum to check.
    """
    unchecked = []
    for hook in hooks:
        site, layer = site_of(hook.name) or ("", 0)
        if site not in CHECKED_SITES:
            continue
        holds = _sums_with(site, layer, model, token_ids, valid)
        if not holds:
            unchecked.append(hook.name)
        elif not any(holds.values()):
            failed = next(iter(holds))
            raise ConfigurationError(
                f"hook {hook.name}: in layer {layer} of {type(model).__name__}, "
                f"{failed} does not hold for {hook.path}, so it is not the intended "
                f"{site}; to read this module anyway, pass --hook "
                f"{hook.path}.{hook.side}"
            )
    return unchecked


def _sums_with(
    site: str, layer: int, model: nn.Module, token_ids: Tensor, valid: Tensor
) -> dict[str, bool]:
    """Every sum that has the site in it and can be computed, and whether it holds."""
    at: dict[str, Tensor] = {}
    for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "residual"):
        # One pass for each: what a layer lacks or does not reach is not a fault of the others.
        with suppress(AutointerpError):
            hook = resolve_hook(model, f"{name}:{layer}")
            (values,) = activations_at(model, [hook], token_ids, valid)
            at[name] = values[valid.to(values.device)].cpu()
    sums = [
        (terms, total)
        for terms, total in _SUMS
        if site in (*terms, total) and at.keys() >= {*terms, total}
    ]
    return {
        f"{' + '.join(terms)} = {total}": _adds_up([at[t] for t in terms], at[total])
        for terms, total in sums
    }


def _adds_up(terms: Sequence[Tensor], total: Tensor) -> bool:
    """Whether the terms make the total but for rounding, each of any float type: [tokens, d]."""
    if any(term.shape != total.shape for term in terms):
        return False
    eps = max(torch.finfo(values.dtype).eps for values in (*terms, total))
    values = [value.double() for value in (*terms, total)]
    size = sum((value.abs() for value in values), torch.zeros(()))
    error = (sum(values[:-1], torch.zeros(())) - values[-1]).abs()
    # What is not finite is not wrong here: it is counted and said elsewhere.
    wrong = (error > _ROUNDINGS * eps * size) & error.isfinite()
    return float(wrong.double().mean()) <= _MAX_WRONG
