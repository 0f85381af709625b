"""Batches of whole contexts: tokens, their masks, and activations or firings."""

from collections.abc import Collection
from dataclasses import dataclass, field

from torch import Tensor

from autointerp.activations.masks import MASKS, Mask
from autointerp.tensors.firings import Firings

# Bits of a token's mask. UNCOUNTED: a token of a turn of a chat that is not to count. NOT_FINITE:
# its activation is none that can be computed with.
VALID, SPECIAL, OUTLIER, UNCOUNTED, NOT_FINITE = 1, 2, 4, 8, 16
OUTLIER_MULTIPLE = 10.0
_MASK_BITS = {"special": SPECIAL, "norm_outlier": OUTLIER, "other_turns": UNCOUNTED}


@dataclass(frozen=True)
class TokenBatch:
    """`first_context` is the index of the first row in all the contexts that are read.

    document: the number of each token's document in the text, -1 for padding; None where unknown.
    unit: what lies on one side of a split, by number, of each token or of each context; None where
    it was not asked for.
    """

    first_context: int
    token_ids: Tensor  # int32 [contexts, length]
    mask: Tensor  # uint8 [contexts, length]: VALID, SPECIAL, OUTLIER, UNCOUNTED, NOT_FINITE
    document: Tensor | None = field(default=None, kw_only=True)  # int32 [contexts, length]
    unit: Tensor | None = field(default=None, kw_only=True)  # int64 [contexts, length or 1]

    def eligible(self, masks: Collection[Mask] = MASKS) -> Tensor:
        """Tokens whose activations count: bool [contexts, length].

        Not padding, finite, and as `masks` has it not a context's first token, not a special token,
        no norm outlier and not in a turn that is left out: the first ones carry attention sinks,
        which would take the top windows of hundreds of features.
        """
        hiding = sum(bit for name, bit in _MASK_BITS.items() if name in masks)
        counts = (self.mask & (VALID | NOT_FINITE | hiding)) == VALID
        return counts & ~self.first_tokens() if "first_position" in masks else counts

    def first_tokens(self) -> Tensor:
        """The first token of every context that is not padding: bool [contexts, length]."""
        valid = (self.mask & VALID) != 0
        return valid & (valid.cumsum(1) == 1)

    def masked_counts(self, masks: Collection[Mask] = MASKS) -> dict[str, int]:
        """How many tokens each reason masks; a token may have several reasons."""
        valid = (self.mask & VALID) != 0

        def count(bit: int) -> int:
            return int((valid & ((self.mask & bit) != 0)).sum())

        found = {"first_position": int(self.first_tokens().sum())}
        found |= {name: count(bit) for name, bit in _MASK_BITS.items()}
        always = {"padding": int((~valid).sum()), "not_finite": count(NOT_FINITE)}
        return always | {n: c for n, c in found.items() if n in masks}


@dataclass(frozen=True)
class ActivationBatch(TokenBatch):
    """Contexts with the subject model's activations at one hook point."""

    activations: Tensor  # [contexts, length, d_in]


@dataclass(frozen=True)
class FiringBatch(TokenBatch):
    """Contexts with an SAE's feature activations; `firings.token` counts the tokens row by row."""

    firings: Firings


def norm_bits(norms: Tensor, valid: Tensor, median: float) -> Tensor:
    """The bits of valid tokens whose norm is not finite, or over 10 times the median.

    norms, valid: [contexts, length] → uint8, the same shape. Public SAEs of Qwen, Llama and
    gpt-oss models were trained without such tokens (dictionary_learning, PR 52).
    """
    finite = norms.isfinite()
    outlier = valid & finite & (norms > OUTLIER_MULTIPLE * median)
    return (outlier * OUTLIER + (valid & ~finite) * NOT_FINITE).byte()


@dataclass(frozen=True)
class NormSample:
    """Norms of the activations of the first contexts.

    What depends on the size of activations depends on this sample alone, so that it is the same
    for a cache, a stream and any batch size.
    """

    median: float
    mean: float


SAMPLE_TOKENS = 16_384


def sampled_contexts(context_length: int) -> int:
    """How many contexts, from the first, make up a sample."""
    return max(1, SAMPLE_TOKENS // context_length)


def norm_sample(norms: Tensor, valid: Tensor) -> NormSample:
    """norms: float [contexts, length]; valid: bool, the same shape. No token: norms of 1."""
    kept = norms[valid & norms.isfinite()].double()
    if len(kept) == 0:
        return NormSample(1.0, 1.0)
    return NormSample(float(kept.median()), float(kept.mean()))
