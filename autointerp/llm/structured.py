"""JSON in what a language model wrote, read with tolerance and without guessing.

Nothing here raises, whatever the text: what cannot be read is left out. Text inside strings is
never repaired.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# Beyond this many false starts there is no JSON in the text, only braces.
MAX_FALSE_STARTS = 2000
THINK, THINK_END = "<think>", "</think>"

# NaN and infinity are no JSON, but models write them: null. Line breaks inside strings are kept.
_decoder = json.JSONDecoder(parse_constant=lambda _: None, strict=False)
_start = re.compile(r"[{\[]")
_comma = re.compile(r"\s*,\s*")
_fence = re.compile(r"(?:```\w*)?\s*")


def items(text: str, key: str) -> list[dict[str, Any]]:
    """The whole objects of the array under `key`, also where the text breaks off within it.

    An item that cannot be read is left out, and those after it are still found. A reply that begins
    with the whole object is that object: what comes after it may quote a window. Else, where there
    are several such arrays, the last one counts: what goes before is an example or a draft. Where
    there is none, an array without a name or objects one after another are taken for it.
    """
    answer = _answer(text)
    whole = _whole(answer).get(key)
    if isinstance(whole, list):
        return [item for item in whole if isinstance(item, dict)]
    # A quote inside a string is escaped, so a match is never part of a string.
    opening = re.compile(r"(?<!\\)" + re.escape(json.dumps(key)) + r"\s*:\s*\[")
    found: list[dict[str, Any]] | None = None
    match = opening.search(answer)
    while match:
        found, end = _elements(answer, match.end())
        match = opening.search(answer, end)
    if found is not None:
        return found
    flat: list[Any] = []
    for value in _scan(answer):
        flat.extend(value if isinstance(value, list) else [value])
    return [item for item in flat if isinstance(item, dict)]


def undisputed(said: Iterable[tuple[int, T]]) -> dict[int, T]:
    """What is said of each number; left out where it is said twice, and not the same."""
    found: dict[int, T] = {}
    disputed: set[int] = set()
    for number, value in said:
        if found.setdefault(number, value) != value:
            disputed.add(number)
    return {number: value for number, value in found.items() if number not in disputed}


def sides(text: str, yes: str, no: str, n: int) -> dict[int, bool]:
    """Which of the numbers 1 to n stand in the array under `yes`, which in that under `no`."""
    return {i: key == yes for i, key in lists(text, (yes, no), n).items()}


def lists(text: str, keys: Sequence[str], n: int) -> dict[int, str]:
    """Under which of the keys each of the numbers 1 to n stands, an array under each.

    Numbers in several, or in none, are left out. A reply that begins with the whole object is that
    object; else of several arrays of one name the last counts, and of one that breaks off the last
    number may be but the beginning of one, and is left out.
    """
    answer = _answer(text)
    whole = _whole(answer)
    if all(isinstance(whole.get(key), list) for key in keys):
        found = {key: {i for v in whole[key] if 1 <= (i := number_of(v)) <= n} for key in keys}
    else:
        found = {key: _numbers(answer, key, n) for key in keys}
    times = Counter(i for numbers in found.values() for i in numbers)
    return {i: key for key, numbers in found.items() for i in numbers if times[i] == 1}


def _whole(answer: str) -> dict[str, Any]:
    """The object that the answer begins with; empty where it begins otherwise, or breaks off."""
    found = _decode(answer, _fence.match(answer).end())  # type: ignore[union-attr]
    return found[0] if found is not None and isinstance(found[0], dict) else {}


def _numbers(text: str, key: str, n: int) -> set[int]:
    named = r"(?<!\\)" + re.escape(json.dumps(key)) + r"\s*:\s*\[([^\[\]{}]*)(\]?)"
    arrays = re.findall(named, text)
    if not arrays:
        return set()
    inside, closed = arrays[-1]
    parts = inside.split(",")[: None if closed else -1]
    numbers = (number_of(part.strip().strip('"')) for part in parts)
    return {number for number in numbers if 1 <= number <= n}


def number_of(value: object) -> int:
    """A number that something is known by, which some models write as a string; else 0."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _decode(text: str, at: int) -> tuple[Any, int] | None:
    """The value that starts at `at` and where it ends, or None."""
    try:
        value, end = _decoder.raw_decode(text, at)
        return _clean(value), end
    # Besides broken JSON: integers of more digits than Python reads, and bottomless nesting.
    except (ValueError, RecursionError):
        return None


def _clean(value: Any) -> Any:
    """The same value without lone surrogates, which no file can hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _scan(text: str) -> list[dict[str, Any] | list[Any]]:
    found = []
    false_starts = 0
    match = _start.search(text)
    while match and false_starts < MAX_FALSE_STARTS:
        decoded = _decode(text, match.start())
        if decoded is None:
            false_starts += 1
            match = _start.search(text, match.end())
        else:
            found.append(decoded[0])
            match = _start.search(text, decoded[1])
    return found


def _elements(text: str, at: int) -> tuple[list[dict[str, Any]], int]:
    """Objects of the array whose first element is at `at`, and where reading them ended."""
    found: list[dict[str, Any]] = []
    first = re.compile(r'\s*(\{\s*"[^"\\]*"\s*:)').match(text, at)
    # All items begin with the same field: behind a broken one, that is where the next begins.
    again = re.compile(r"\s*".join(map(re.escape, _parts(first[1])))) if first else None
    at = first.start(1) if first else at
    for _ in range(len(text)):
        decoded = _decode(text, at)
        if decoded is not None:
            value, at = decoded
            if isinstance(value, dict):
                found.append(value)
            comma = _comma.match(text, at)
            if comma:
                at = comma.end()
                continue
            return found, at
        resumed = again.search(text, at + 1) if again else None
        if resumed is None:
            return found, at
        at = resumed.start()
    return found, at


def _parts(start: str) -> list[str]:
    """`{ "n" :` as its three tokens."""
    return ["{", start[1:-1].strip(), ":"]


def _answer(text: str) -> str:
    """The text without the thoughts that some models write before their answer.

    Thoughts that never end leave no answer. A tag inside the JSON, which a label may well be
    about, is none.
    """
    stripped = text.lstrip()
    if stripped.startswith(THINK):
        return stripped.partition(THINK_END)[2]
    if stripped.startswith(("{", "[", "```")):
        return stripped
    # Some chat templates open the thoughts in the prompt, so that only their end is seen.
    _, end, rest = stripped.partition(THINK_END)
    return rest if end and _scan(rest) else stripped
