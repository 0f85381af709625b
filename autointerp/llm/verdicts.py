"""Yes or no about each of many numbered items, as a model's reply says it.

An endpoint that constrains decoding sends an object with a boolean for each number, or with an
object that has one. Others send what resembles it: "true" or yes for true, 1 and 0, a list of
objects, an array in order, lines of text, or one list for each answer.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

from autointerp.llm.numbering import Miscounted, by_place, number_of, numbers, offset_of
from autointerp.llm.wire.logprobs import Position
from autointerp.llm.wire.structured import MAX_FALSE_STARTS, THINK_END, answer_of, listed_numbers

Said = tuple[int | None, bool]  # a number, and whether yes is said of it

_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_LITTLE = 0.05  # of the chance of the one that is known
_WORDS = "|".join((*_YES, *_NO))
_NUMBER_FIELDS = ("n", "number", "excerpt", "id")
_ANSWER_FIELDS = ("answer", "verdict", "value")
_START, _QUOTE = re.compile(r"[{\[]"), re.compile('"')
# What is around an answer in the token that it begins in, or in one that might have stood there.
_AROUND = " \t\r\n\"':"
# A number and its answer, with at most a quote between them, whatever the rest of the text is like.
_STRING = r'"(?:[^"\\]|\\.)*"'
_ENTRY = re.compile(
    rf"""(?:(?<!\\)["']|^[^\S\n]*|[{{,]\s*)(?:\w{{1,10}}\s)?(\d{{1,6}})["']?\s*[:.)]\s*"""
    rf"""(?:\{{\s*(?:"\w+"\s*:\s*{_STRING}\s*,\s*)?["']?\w+["']?\s*:\s*)?"""
    rf"""["']?({_WORDS})\b(?=["']?\s*(?:[,}}\]\n.;]|$))""",
    re.IGNORECASE | re.MULTILINE,
)


class _Pairs(list[tuple[str, Any]]):
    """An object with all its entries, also those whose names stand twice."""


_decoder = json.JSONDecoder(object_pairs_hook=_Pairs, strict=False)


def read(text: str, names: tuple[str, str], n: int, scattered: bool = False) -> dict[int, bool]:
    """What is said of each of `n` items, by place from 1; nothing of one that is said both of.

    `names` are what yes and no are called. Raises Miscounted where the numbers are not those of the
    items. An array without numbers is in order, and is read only if it is as long as it should be.
    """
    found = said(text, names)
    if any(number is None for number, _ in found):
        in_order = [yes for number, yes in found if number is None]
        return dict(enumerate(in_order, 1)) if len(in_order) == len(found) == n else {}
    return by_place(found, n, scattered)


def said(text: str, names: tuple[str, str]) -> list[Said]:
    """Everything that a reply says, in its order, before any of it is believed.

    What the reply begins with counts; else, of several values, the last that says something: what
    goes before is an example or a draft.
    """
    answer = answer_of(text).strip()
    found: list[Said] = []
    for value, at in _values(answer):
        if isinstance(value, str):
            return said(value, names)
        here = list(_in_value(value, names))
        found = here or found
        if here and not answer[:at].strip().removeprefix("```json").strip("`"):
            return found
    if found:
        return found
    found = [(int(m[1]), m[2].lower() in _YES) for m in _ENTRY.finditer(answer)]
    return found or said_in_lists(text, names)


def said_in_lists(text: str, names: tuple[str, str]) -> list[Said]:
    """The same of a reply that has a list of numbers for yes and one for no."""
    listed = listed_numbers(text, names)
    return [(number, name == names[0]) for name in names for number in listed[name]]


def slips(said: Sequence[Said], n: int, scattered: bool = False) -> set[str]:
    """How what is said differs from one answer for each of `n` items.

    `strays`: for an item that there is not; `left_out`: none for one that there is; `disputed`: yes
    and no for the same one.
    """
    if not said:
        return set()
    found = set()
    if any(number is None for number, _ in said):
        found |= {"strays"} if len(said) > n else set()
        return found | ({"left_out"} if len(said) < n else set())
    given, asked = {number for number, _ in said}, set(numbers(n, scattered))
    with suppress(Miscounted):
        asked = {number - offset_of(_known(said), n, scattered) for number in asked}
    found |= {"strays"} if given - asked else set()
    found |= {"left_out"} if asked - given else set()
    return found | ({"disputed"} if len(set(said)) > len(given) else set())


def chances(positions: Sequence[Position], n: int, scattered: bool = False) -> dict[int, float]:
    """The probability of yes for each item, against no, by index; positions: a reply's tokens.

    Read at the token in which an answer begins, whatever else that token holds and however the
    answer is divided into tokens. Where only one of the two is among the alternatives, the other is
    at most as likely as the least likely of these, and counts as that if it is little; otherwise
    nothing is known, nor where the numbers are not those of the items.
    """
    starts = list(accumulate((len(p.text) for p in positions), initial=0))
    text = "".join(position.text for position in positions)
    thoughts, end, _ = text.rpartition(THINK_END)
    found: dict[int, float | None] = {}
    for match in _ENTRY.finditer(text, len(thoughts) + len(end)):
        place = bisect_right(starts, match.start(2)) - 1
        before = text[starts[place] : match.start(2)]
        number = int(match[1])
        # Of two answers for one number nobody knows which one counts.
        found[number] = (
            None if number in found else _chance(positions[place], before, match[2].lower())
        )
    try:
        offset = offset_of(found, n, scattered)
    except Miscounted:
        return {}
    return {
        i: chance
        for i, number in enumerate(numbers(n, scattered))
        if (chance := found.get(number - offset)) is not None
    }


def _chance(position: Position, before: str, written: str) -> float | None:
    """Of yes against no at a token of which `before` stands before the answer that was written."""
    pair = next(pair for pair in zip(_YES, _NO, strict=True) if written in pair)
    likely = [(text, math.exp(min(logprob, 0.0))) for text, logprob in position.alternatives()]
    yes, no = (
        sum(chance for text, chance in likely if _begins(text.removeprefix(before), word))
        for word in pair
    )
    # What is written may be unlikely: decoding that is constrained takes the best of what may be.
    least = min((chance for _, chance in likely), default=1.0)
    most = min(least, max(0.0, 1.0 - sum(chance for _, chance in likely)))
    if yes and no:
        return yes / (yes + no)
    known = yes or no
    if not known or most > _LITTLE * known:
        return None
    return known / (known + most) if yes else most / (known + most)


def _begins(text: str, word: str) -> bool:
    """Whether a token begins with a word, or is the beginning of it."""
    first = re.match(r"\w*", text.lstrip(_AROUND).lower())
    return first is not None and bool(first[0]) and word.startswith(first[0])


def _values(answer: str) -> Iterator[tuple[Any, int]]:
    """The JSON objects and arrays of a text, and where each begins."""
    # The whole reply may be one string that holds it.
    match = _QUOTE.match(answer) or _START.search(answer)
    for _ in range(MAX_FALSE_STARTS):
        if match is None:
            return
        try:
            value, at = _decoder.raw_decode(answer, match.start())
            yield value, match.start()
        except (ValueError, RecursionError):
            at = match.end()
        match = _START.search(answer, at)


def _in_value(value: Any, names: tuple[str, str]) -> Iterator[Said]:
    if isinstance(value, _Pairs):
        keyed = [
            (number, entry) for name, entry in value if (number := number_of(name)) is not None
        ]
        if keyed:
            for number, entry in keyed:
                yes = _answer_in(entry, names)
                if yes is not None:
                    yield number, yes
            return
        folded = {name.casefold(): entry for name, entry in value}
        if all(isinstance(folded.get(name), list) for name in names):
            for name in names:
                for entry in folded[name]:
                    if (number := number_of(entry)) is not None:
                        yield number, name == names[0]
            return
        # The one list or object in it, whatever it is called.
        inner = [entry for _, entry in value if isinstance(entry, list)]
        if len(inner) == 1:
            yield from _in_value(inner[0], names)
    elif isinstance(value, list):
        # Numbers may be those of excerpts, and of entries in order none may be passed over.
        each = [
            (_number_in(entry), None if type(entry) is int else _answer_in(entry, names))
            for entry in value
        ]
        if (None, None) not in each:
            yield from ((number, yes) for number, yes in each if yes is not None)


def _answer_in(entry: Any, names: tuple[str, str]) -> bool | None:
    if isinstance(entry, _Pairs):
        folded = {name.casefold(): value for name, value in entry}
        fields = (names[0], *_ANSWER_FIELDS)
        return next((_truth(folded[name]) for name in fields if name in folded), None)
    return _truth(entry, names)


def _number_in(entry: Any) -> int | None:
    if not isinstance(entry, _Pairs):
        return None
    folded = {name.casefold(): value for name, value in entry}
    return next((number_of(folded[name]) for name in _NUMBER_FIELDS if name in folded), None)


def _truth(value: Any, names: tuple[str, str] = ("true", "false")) -> bool | None:
    """Whether a value says yes; None where it says neither."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().casefold() if isinstance(value, str | int) else ""
    if word in (*_YES, names[0]):
        return True
    return False if word in (*_NO, names[1], names[1].replace("_", " ")) else None


def _known(said: Iterable[Said]) -> Iterator[int]:
    return (number for number, _ in said if number is not None)
