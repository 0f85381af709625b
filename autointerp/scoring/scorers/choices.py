"""Labels to choose between: a feature's own, among those of the features most like it."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import log

from autointerp.plain_text import one_line
from autointerp.scoring.null import Labeled

LETTERS = "ABCD"


@dataclass(frozen=True, slots=True)
class Choices:
    """Labels of `others` in the order in which they are shown; the one to judge is at `place`."""

    others: tuple[Labeled, ...]
    place: int
    own: str | None = None

    def with_own(self, label: str) -> "Choices":
        return replace(self, own=label)

    def labels(self) -> list[str]:
        """All of them in order. Raises ValueError while the one to judge is not known."""
        if self.own is None:
            raise ValueError("the label to judge is not among the choices yet")
        labels = [other.label for other in self.others]
        return [*labels[: self.place], self.own, *labels[self.place :]]

    def shown(self) -> list[dict[str, str]]:
        """As a template lists them."""
        labels = self.labels()
        return [
            {"letter": letter, "label": one_line(label)}
            for letter, label in zip(LETTERS, labels, strict=False)
        ]

    def credit(self, letter: str) -> float:
        """What choosing it is worth: equal labels share one, as nobody can tell them apart."""
        labels = [label.casefold() for label in self.labels()]
        chosen, own = labels[LETTERS.index(letter)], labels[self.place]
        return 1 / labels.count(own) if chosen == own else 0.0


class KnownLabels:
    """The labels of a run by feature, and in order of how often their features fire."""

    def __init__(self, labeled: Iterable[Labeled] = ()) -> None:
        self._ranked = sorted(labeled, key=lambda each: (each.n_active, each.feature))
        self._counts = [each.n_active for each in self._ranked]
        self._by_feature = {each.feature: each for each in self._ranked}

    def nearest(
        self, feature: int, n_active: int, similar: Sequence[int], n: int
    ) -> tuple[Labeled, ...]:
        """`n` other features that have a label, or fewer where there are not so many.

        `similar` ones in their order, then those that fire about as often.
        """
        found: dict[int, Labeled] = {}
        for other in similar:
            if other != feature and other in self._by_feature and len(found) < n:
                found[other] = self._by_feature[other]
        for each in self._by_density(n_active):
            if len(found) >= n:
                break
            if each.feature != feature:
                found.setdefault(each.feature, each)
        return tuple(found.values())

    def _by_density(self, n_active: int) -> Iterator[Labeled]:
        """All of them, the nearest in the ratio of their counts first."""

        def distance(place: int) -> float:
            return abs(log(max(self._counts[place], 1)) - log(max(n_active, 1)))

        above = bisect_left(self._counts, n_active)
        below = above - 1
        while below >= 0 or above < len(self._ranked):
            if below < 0 or (above < len(self._ranked) and distance(above) <= distance(below)):
                yield self._ranked[above]
                above += 1
            else:
                yield self._ranked[below]
                below -= 1
