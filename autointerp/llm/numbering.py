"""Answers matched to what was asked by the numbers that a reply gives.

A model that counts from 0, or loses count on the way, would put one item's answer on its neighbor.
So all numbers of a reply are compared with those that were asked before any of them is believed.
Items are known by their places, from 1; a reply that lost count is asked again with numbers that
nobody can get by counting.
"""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

_MIN_SCATTERED = 10  # of the scattered numbers
_GAP = 3  # between any two of them, so that one more or one less is never another item's number
_MIN_RANGE = 31  # numbers to scatter over
_STRIDE = 11
_MAX_NAME = 40  # characters around a number, as in "Feature 3"


class Miscounted(ValueError):
    """A reply's numbers are not those that were asked for, and how they differ is not clear."""


def numbers(n: int, scattered: bool = False) -> list[int]:
    """What `n` items are called, in order: 1 to n, or numbers without any order."""
    if not scattered:
        return list(range(1, n + 1))
    size = max(_MIN_RANGE, n + 1)
    size += size % _STRIDE == 0  # without a common divisor no two places get the same number
    return [_MIN_SCATTERED + _GAP * (_STRIDE * place % size) for place in range(1, n + 1)]


def number_of(value: object) -> int | None:
    """The number something is known by: 3, 3.0, "3" or "Feature 3"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) <= _MAX_NAME:
        digits = "".join(c if c in "0123456789" else " " for c in value).split()
        return int(digits[0]) if len(digits) == 1 and "-" not in value else None
    return None


def offset_of(given: Iterable[int], n: int, scattered: bool = False) -> int:
    """What to add to the given numbers: 0, or 1 or -1 where all of them are off by just that.

    Raises Miscounted where one was not asked for, unless the others show how it came about. What is
    far from any number asked for is not a slip in counting, and does no harm where none is missing.
    """
    found, asked = set(given), set(numbers(n, scattered))
    strays = found - asked
    if not strays:
        return 0
    if asked <= found and not asked & {stray + step for stray in strays for step in (1, -1)}:
        return 0
    for offset in (1, -1):
        if {number + offset for number in found} == asked:
            return offset
    raise Miscounted


def by_place(said: Iterable[tuple[int | None, T]], n: int, scattered: bool = False) -> dict[int, T]:
    """What is said of each of `n` items, by place from 1; an item of which two things are said is
    left out.

    What is said without a number is about the only item, where there is but one, and is otherwise
    left out. Raises Miscounted where the numbers do not tell which item is meant: one was not asked
    for, or one is given to two answers while another is missing.
    """
    answers = list(said)
    if n == 1 and len(answers) == 1 and answers[0][0] is None:
        return {1: answers[0][1]}
    numbered = [(number, value) for number, value in answers if number is not None]
    offset = offset_of((number for number, _ in numbered), n, scattered)
    found = undisputed((number + offset, value) for number, value in numbered)
    given = {number + offset for number, _ in numbered}
    if len(found) < len(given) < n:
        raise Miscounted
    return {
        place: found[number]
        for place, number in enumerate(numbers(n, scattered), 1)
        if number in found
    }


def undisputed(said: Iterable[tuple[int, T]]) -> dict[int, T]:
    """What is said of each number; left out where it is said twice, and not the same."""
    found: dict[int, T] = {}
    disputed: set[int] = set()
    for number, value in said:
        first = found.setdefault(number, value)
        # NaN is not equal to itself.
        if first is not value and first != value:
            disputed.add(number)
    return {number: value for number, value in found.items() if number not in disputed}
