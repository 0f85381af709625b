"""Activation functions: which of a token's pre-activations fire.

Each takes float32 [tokens, features] and gives token, feature (int64) and pre-activation of what
fires, all [firings], ordered by token.
"""

from torch import Tensor

Active = tuple[Tensor, Tensor, Tensor]


def above(before: Tensor, floor: Tensor | float) -> Active:
    """Pre-activations over a floor ([features] or one for all) that is 0 or more."""
    token, feature = (before > floor).nonzero(as_tuple=True)
    return token, feature, before[token, feature]


def largest(before: Tensor, k: int) -> Active:
    """The k largest of every token, as far as they are over 0.

    In two levels: the k largest are in the k groups of features whose maxima are largest, so that
    all that is read of the others is their maxima.
    """
    tokens, features = before.shape
    group = _group_size(features, k)
    if group == 1:
        values, feature = before.topk(k, dim=1, sorted=False)
    else:
        # Groups take every so-manieth feature: their maxima are those of whole rows, which is fast.
        grouped = before.view(tokens, group, features // group)
        best = grouped.amax(1).topk(k, dim=1, sorted=False).indices
        candidates = grouped.gather(2, best.unsqueeze(1).expand(-1, group, -1)).flatten(1)
        values, found = candidates.topk(k, dim=1, sorted=False)
        feature = (found // k) * (features // group) + best.gather(1, found % k)
    token, place = (values > 0).nonzero(as_tuple=True)
    return token, feature[token, place], values[token, place]


def _group_size(features: int, k: int) -> int:
    """A power of two that divides the features; √(features / k) makes both levels alike."""
    group = 1
    while features % (2 * group) == 0 and k * (2 * group) ** 2 <= 2 * features:
        group *= 2
    return group


def largest_of_groups(before: Tensor, k: int) -> Active:
    """The largest of each of k equal groups of features, as far as over 0 (sparsify's groupmax)."""
    values, within = before.unflatten(1, (k, before.shape[1] // k)).max(dim=2)
    token, group = (values > 0).nonzero(as_tuple=True)
    feature = within[token, group] + group * (before.shape[1] // k)
    return token, feature, values[token, group]
