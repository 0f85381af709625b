"""Text that the subject model writes while something is added at a hook."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from autointerp.activations.hooks import Hook
from autointerp.activations.subject import Subject
from autointerp.errors import ConfigurationError


@contextmanager
def steered(hook: Hook, shift: Tensor) -> Iterator[None]:
    """Within it, shift [contexts, d] is added on every token of each context.

    It is in the units of what the hook sees: where a layer multiplies that, what the module gives
    is shifted by as much less.
    """
    shift = shift / hook.scale

    def added(value: object) -> object:
        found = value[0] if isinstance(value, tuple) else value
        if not isinstance(found, Tensor) or found.numel() % shift.numel():
            raise ConfigurationError(
                f"hook {hook.name}: the output of {hook.path} cannot be steered"
            )
        # Whatever its shape, it is contexts × tokens × d: mixtures of experts flatten the tokens,
        # attention splits d into heads.
        moved = found.reshape(len(shift), -1, shift.shape[1]) + shift.to(found).unsqueeze(1)
        moved = moved.view(found.shape)
        return (moved, *value[1:]) if isinstance(value, tuple) else moved

    def before(_module: nn.Module, args: tuple, kwargs: dict) -> tuple:  # type: ignore[type-arg]
        if args:
            return (added(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": added(kwargs.get("hidden_states"))}

    def after(_module: nn.Module, _args: object, output: object) -> object:
        return added(output)

    if hook.side == "input":
        handle = hook.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = hook.module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def continuations(
    subject: Subject, hook: Hook, starts: Tensor, shift: Tensor, tokens: int, seed: int
) -> Tensor:
    """What the model writes after each start, sampled at temperature 1.

    starts: int64 [rows, length]; shift: float [rows, d], added at the hook on every token, those of
    the start included → int64 [rows, tokens]. The same rows and seed give the same text on the
    same machine.
    """
    device = subject.device
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        steered(hook, shift.to(device)),
    ):
        torch.manual_seed(seed)
        whole: Tensor = subject.model.generate(
            input_ids=starts.to(device),
            attention_mask=torch.ones_like(starts, device=device),
            max_new_tokens=tokens,
            min_new_tokens=tokens,  # an early end would leave nothing to rate
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            use_cache=True,
            # A large factor may leave no number to draw from.
            remove_invalid_values=True,
            pad_token_id=subject.tokenizer.pad_token_id or 0,
        )
    return whole[:, starts.shape[1] :].cpu()
