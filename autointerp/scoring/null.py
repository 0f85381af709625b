"""The null: the score of another feature's label, of similar density, on the same windows."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_REACH = 16  # how far away in order of density the other label may come from


@dataclass(frozen=True, slots=True)
class Labeled:
    feature: int
    label: str
    n_active: int
    rule: str | None = None  # the label as a rule, for one that is


def null_sample(
    features: Sequence[int], share: float, fewest: int, seed: int, *, former: bool = False
) -> set[int]:
    """The seeded share of the features that get a null; `fewest` of them where the share is less.

    A feature's draw does not depend on the others, so that most stay when features are added; what
    is scored first gets a null first, so that all stay when a larger share is scored. former: as
    it was drawn before a share could be scored.
    """
    ranked = _drawn("null" if former else "score", features, seed)
    return set(ranked[: max(fewest, round(share * len(features)))])


def scored_sample(features: Sequence[int], share: float, seed: int) -> list[int]:
    """The seeded share of the features that is scored, one at least, ascending.

    That of a larger share has all of them, and most of them where features are added.
    """
    if share >= 1:
        return sorted(features)
    return sorted(_drawn("score", features, seed)[: max(1, round(share * len(features)))])


def _drawn(purpose: str, features: Sequence[int], seed: int) -> list[int]:
    """The features in an order in which those before a feature do not depend on any behind it."""
    return sorted(features, key=lambda f: random.Random(f"{purpose}:{seed}:{f}").random())


def null_partners(labeled: Sequence[Labeled], seed: int) -> dict[int, int]:
    """feature → the feature whose label serves as its null; none where all labels are equal.

    The partner is drawn among those nearest in density, since a label for a feature ten times as
    common would be told apart by breadth alone, and must have another label.
    """
    ranked = sorted(labeled, key=lambda f: (f.n_active, f.feature))
    partners: dict[int, int] = {}
    for place, own in enumerate(ranked):
        rng = random.Random(f"{seed}:{own.feature}")
        reach = _REACH
        while own.feature not in partners and reach < 2 * len(ranked) + _REACH:
            near = [
                other
                for other in ranked[max(0, place - reach) : place + reach + 1]
                if other.label.casefold() != own.label.casefold()
            ]
            if near:
                partners[own.feature] = rng.choice(near).feature
            reach *= 2
    return partners
