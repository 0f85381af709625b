"""Decides whether a feature has several meanings, by the windows that each covers."""

from collections import Counter
from collections.abc import Iterable

_ENOUGH = 2  # windows that a meaning covers, and meanings that cover so many


def distinct_meanings(
    claims: Iterable[tuple[str, Iterable[int]]], shown: int, most: int
) -> list[str]:
    """The meanings that the shown windows bear out, at most `most`; none where there is but one.

    A claim is a meaning and the numbers, from 1 to `shown`, of the windows it is said to cover. A
    window speaks for a meaning if no other one claims it: a meaning for which none does is
    dropped, and a feature has several only if two windows each speak for two of them.
    """
    windows: dict[str, set[int]] = {}
    names: dict[str, str] = {}
    for name, numbers in claims:
        windows.setdefault(name.casefold(), set()).update(numbers)
        names.setdefault(name.casefold(), name)
    claimed = Counter(number for numbers in windows.values() for number in numbers)
    own = {
        key: sum(claimed[n] == 1 and 1 <= n <= shown for n in numbers)
        for key, numbers in windows.items()
    }
    kept = [key for key, count in own.items() if count > 0][:most]
    if sum(own[key] >= _ENOUGH for key in kept) < _ENOUGH:
        return []
    return [names[key] for key in kept]


def joint_label(meanings: Iterable[str]) -> str:
    """A label that covers all of several meanings."""
    return "either " + ", or ".join(meanings)
