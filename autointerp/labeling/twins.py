"""Twins: features so similar that they can share a label."""

from collections.abc import Iterable, Mapping, Sequence

OVERLAP = 0.5  # Jaccard index of the contexts of the largest labeling windows, at least


def alike(similar: Iterable[tuple[int, int, float]], cosine: float) -> dict[int, list[int]]:
    """feature → the features whose decoder cosine with it is at least `cosine`, either way round.

    similar: (feature, one of the nearest to it, their cosine), in any order. What is nearest to one
    need not have it among its own nearest.
    """
    pairs = {
        pair
        for feature, other, score in similar
        if score >= cosine and other != feature
        for pair in ((feature, other), (other, feature))
    }
    found: dict[int, list[int]] = {}
    for feature, other in sorted(pairs):
        found.setdefault(feature, []).append(other)
    return found


def find_twins(
    neighbors: Mapping[int, Sequence[int]],
    contexts: Mapping[int, set[int]],
    n_active: Mapping[int, int],
) -> dict[int, int]:
    """feature → the feature whose label it takes; features that keep their own are left out.

    neighbors: from `alike`. contexts: of the largest labeling windows, for every feature that may
    be linked. The most frequent feature of those alike lends its label to its neighbors with
    enough contexts in common. Each is compared with the very feature whose label it takes: there
    do not form chains, whose ends would have little in common.
    """
    twins: dict[int, int] = {}
    lenders: set[int] = set()
    for feature in sorted(contexts, key=lambda f: (-n_active[f], f)):
        if feature in twins:
            continue
        for other in neighbors.get(feature, ()):
            if other not in contexts or other in twins or other in lenders:
                continue
            if _overlap(contexts[feature], contexts[other]) >= OVERLAP:
                twins[other] = feature
                lenders.add(feature)
    return twins


def _overlap(a: set[int], b: set[int]) -> float:
    return len(a & b) / max(1, len(a | b))
