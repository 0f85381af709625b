"""Checks for NaN and infinite activations: a few are masked, many stop the run."""

from autointerp.activations.activation_batch import NOT_FINITE, VALID, TokenBatch
from autointerp.errors import InputError

_WARN_ABOVE, _STOP_ABOVE = 0.01, 0.5  # share of tokens
_CAUSES = (
    "likely causes: an overflow in half precision (float16 ends at 65,504; load the "
    "model in bfloat16 or float32), a data type that the device computes incorrectly "
    "(try --device cpu), or damaged weights"
)


def check_finite(not_finite: int, tokens: int, source: str) -> list[str]:
    """A warning if some tokens have NaN or infinite activations.

    tokens: all of them, padding left out. Raises AutointerpError where hardly anything is left.
    """
    share = not_finite / max(tokens, 1)
    if share <= _WARN_ABOVE:
        return []
    said = (
        f"{not_finite:,} of {tokens:,} tokens of {source} ({share:.0%}) have activations that are "
        f"NaN or infinite"
    )
    if share > _STOP_ABOVE:
        raise InputError(f"{said}; {_CAUSES}")
    return [f"{said} and are dropped; {_CAUSES}"]


def check_finite_batch(batch: TokenBatch, source: str) -> list[str]:
    """The same for the tokens of a batch."""
    valid = (batch.mask & VALID) != 0
    broken = valid & ((batch.mask & NOT_FINITE) != 0)
    return check_finite(int(broken.sum()), int(valid.sum()), source)
