"""Counts a judge's unusable replies, and those with one answer to everything."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MIN_ITEMS = 8  # in a request, before one answer to all of them is worth a second look
MIN_OF_EITHER = 2  # items whose truth is yes, and whose truth is no

OWN, NULL = "own", "null"  # whose label the replies are about, in a run's record
# Kinds, as they are counted in a run's record.
RECEIVED = "received"  # replies about several items or one
COPIED = "copied"  # the template's own example given back
UNREADABLE = "unreadable"  # nothing in them could be read
STRAYS, LEFT_OUT, DISPUTED = "strays", "left_out", "disputed"  # see `verdicts.slips`
TELLING = "telling"  # about enough items of both truths: the same answer to all of them tells
ALL_YES, ALL_NO = "all_yes", "all_no"  # of these
CHANGED = "changed"  # of these, other answers came of asking about fewer items at once
KEPT = "kept"  # of these, the answers stand all the same
_SLIPS = (RECEIVED, COPIED, UNREADABLE, STRAYS, LEFT_OUT, DISPUTED)


@dataclass(frozen=True, slots=True)
class Replies:
    """Counts of replies by kind, and the items of each to which all the answers were the same.

    `uniform` has indices of a plan's items.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    uniform: tuple[tuple[int, ...], ...] = ()

    def more(self, *kinds: str, uniform: tuple[int, ...] | None = None) -> "Replies":
        """The counts with one more reply, of these kinds."""
        added = (*self.uniform, uniform) if uniform else self.uniform
        return Replies(Counter(self.counts) + Counter(kinds), added)

    def with_slips_of(self, other: "Replies") -> "Replies":
        """With replies to what was asked again, which do not count among those that tell."""
        counts = {kind: n for kind, n in other.counts.items() if kind in _SLIPS}
        return Replies(Counter(self.counts) + Counter(counts), self.uniform)


def is_telling(truths: Sequence[bool]) -> bool:
    """Whether the same answer to all of these items would be odd: they are many, and differ."""
    yes = sum(truths)
    return len(truths) >= MIN_ITEMS and min(yes, len(truths) - yes) >= MIN_OF_EITHER


def same_answer(answers: Sequence[bool]) -> bool | None:
    """The answer that all items got; None if they differ, or there are none."""
    return answers[0] if answers and len(set(answers)) == 1 else None
