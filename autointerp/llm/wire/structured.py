"""Parses JSON in a language model's reply, tolerantly.

Nothing here raises, whatever the text: what cannot be read is left out. JSON that is only sloppy
(commas too many, single quotes, comments) is repaired by json_repair; what it had to guess, where
a text breaks off or a string has no clear end, is left out as well.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import json_repair

from autointerp.llm.numbering import number_of, numbers, offset_of

# Beyond this many false starts there is no JSON in the text, only braces.
MAX_FALSE_STARTS = 2000
THINK, THINK_END = "<think>", "</think>"

# NaN and infinity are not JSON, but models write them: null. Line breaks inside strings are kept.
_decoder = json.JSONDecoder(parse_constant=lambda _: None, strict=False)
_start = re.compile(r"[{\[]")
# A share without quotes: json_repair takes in the bracket that follows it.
_bare_percent = re.compile(r"(:\s*)([0-9]+(?:\.[0-9]+)?\s*%)(?=\s*[,}\]])")
_comma = re.compile(r"\s*,\s*")
_fence = re.compile(r"(?:```\w*)?\s*")
_MAX_REPAIRED = 200_000  # characters; repairing is much slower than reading
# Put behind a text that is repaired: the string or object that holds it was not closed.
_END = "wHeReItEnDs"
_MARK = f'{_END}, "{_END}": "{_END}"'
# Of a string that took in what follows it, for want of its closing quote.
_RUN_ON = re.compile(r"""['"]\s*\}|\{\s*['"]|['"]\w+['"]\s*:""")


def items(
    text: str, key: str, number: str | None = None, value: str | None = None
) -> list[dict[str, Any]]:
    """The whole objects of the array under `key`, also where the text breaks off within it.

    An item that cannot be read is left out, and those after it are still found. A reply that begins
    with the whole object is that object: what comes after it may quote a window. Else, where there
    are several such arrays, the last one counts: what goes before is an example or a draft. Where
    there is none, an array without a name or objects one after another are taken for it.

    With the names of two fields, an object of entries by their numbers is read as such an array:
    `number` is the field that the number belongs to, `value` the one for an entry that is no
    object. Names of fields are in lower case, however they were written.
    """
    answer = answer_of(text)
    whole = _whole(answer)
    if isinstance(whole, str):
        return items(whole, key, number, value)
    if isinstance(whole, dict):
        listed = _listed(whole, key, number, value)
        if listed is not None:
            return listed
    found = [_folded(item) for item in _scattered_items(answer, key)]
    if isinstance(whole, dict):
        return found
    repaired: list[dict[str, Any]] = []
    quoted = _bare_percent.sub(r'\1"\2"', answer)
    for one in _repaired(quoted):
        listed = _listed(one, key, number, value)
        if listed is not None and (not repaired or not answer.startswith("{")):
            repaired = [item for item in listed if _is_sure(item, quoted)]
    return repaired if len(repaired) > len(found) else found


def _scattered_items(answer: str, key: str) -> list[dict[str, Any]]:
    """The items of a text that does not begin with the whole object."""
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


def _listed(
    whole: dict[str, Any], key: str, number: str | None, value: str | None
) -> list[dict[str, Any]] | None:
    """The items under `key`, or of an object that is keyed by their numbers; None without any."""
    inner = _folded_keys(whole).get(key.casefold(), whole)
    if isinstance(inner, list):
        return [_folded(item) for item in inner if isinstance(item, dict)]
    if number is None or value is None or not isinstance(inner, dict):
        return None
    by_number = {n: entry for name, entry in inner.items() if (n := number_of(name)) is not None}
    if not by_number or len(by_number) < sum(name != _END for name in inner):
        return None
    return [
        {number: n} | (_folded(entry) if isinstance(entry, dict) else {value: entry})
        for n, entry in by_number.items()
    ]


def sides(text: str, yes: str, no: str, n: int, scattered: bool = False) -> dict[int, bool]:
    """Which of `n` items stand, by their numbers, in the array under `yes`, which under `no`.

    By their places, from 1. Raises Miscounted as `lists` does.
    """
    return {i: key == yes for i, key in lists(text, (yes, no), n, scattered).items()}


def lists(text: str, keys: Sequence[str], n: int, scattered: bool = False) -> dict[int, str]:
    """Under which of the keys each of `n` items stands, an array of numbers under each.

    By their places, from 1. Numbers in several, or in none, are left out. A reply that begins with
    the whole object is that object; else of several arrays of one name the last counts, and of one
    that breaks off the last number may be but the beginning of one, and is left out. Raises
    Miscounted where the numbers are not those of the items.
    """
    found = listed_numbers(text, keys)
    times = Counter(i for given in found.values() for i in set(given))
    offset = offset_of(times, n, scattered)
    places = {number: place for place, number in enumerate(numbers(n, scattered), 1)}
    return {
        places[i + offset]: key
        for key, given in found.items()
        for i in given
        if times[i] == 1 and i + offset in places
    }


def listed_numbers(text: str, keys: Sequence[str]) -> dict[str, list[int]]:
    """The numbers in the array under each of the keys, as they stand there; see `lists`."""
    answer = answer_of(text)
    whole = _whole(answer)
    if isinstance(whole, str):
        return listed_numbers(whole, keys)
    found = _arrays(whole, keys) if isinstance(whole, dict) else None
    if found is None:
        found = {key: _numbers(answer, key) for key in keys}
        if not any(found.values()):
            arrays = (_arrays(one, keys) for one in _repaired(answer))
            found = next((one for one in arrays if one is not None), found)
    return found


def _arrays(whole: dict[str, Any], keys: Sequence[str]) -> dict[str, list[int]] | None:
    """The numbers under each of the keys; None where it has not all of them, each with a list."""
    folded = _folded_keys(whole)
    listed = {key: folded.get(key.casefold()) for key in keys}
    found: dict[str, list[int]] = {}
    for key, values in listed.items():
        if not isinstance(values, list) or any(_END in str(value) for value in values):
            return None
        found[key] = [i for v in values if (i := number_of(v)) is not None]
    return found


def _numbers(text: str, key: str) -> list[int]:
    named = r"(?<!\\)" + re.escape(json.dumps(key)) + r"\s*:\s*\[([^\[\]{}]*)(\]?)"
    arrays = re.findall(named, text)
    if not arrays:
        return []
    inside, closed = arrays[-1]
    parts = inside.split(",")[: None if closed else -1]
    return [i for part in parts if (i := number_of(part.strip().strip("\"'"))) is not None]


def is_copied(text: str, template: str) -> bool:
    """Whether a reply begins with an object that a template has as its example."""
    whole = _whole(answer_of(text))
    return isinstance(whole, dict) and whole in _scan(template)


def _whole(answer: str) -> Any:
    """The value that the answer begins with; None where it begins otherwise, or breaks off."""
    found = _decode(answer, _fence.match(answer).end())  # type: ignore[union-attr]
    return None if found is None else found[0]


def _repaired(text: str) -> list[dict[str, Any]]:
    """The objects of a text whose JSON is not well formed; what was not closed holds `_END`."""
    start = _start.search(text)
    if start is None or len(text) > _MAX_REPAIRED:
        return []
    try:
        value = json_repair.loads(text[start.start() :] + _MARK, skip_json_loads=True)
    # What it makes of hostile text is not known: the reply is then as unreadable as it was.
    except (ValueError, RecursionError, IndexError, TypeError):
        return []
    return [
        _clean(one)
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, dict)
    ]


def _is_sure(value: Any, text: str) -> bool:
    """Whether a value was closed in the text it is repaired from, and its strings stand there."""
    if isinstance(value, str):
        if _END in value or _RUN_ON.search(value):
            return False
        quoted = (json.dumps(value, ensure_ascii=False), json.dumps(value), repr(value))
        return any(one in text for one in (*quoted, f'"{value}"', f"'{value}'"))
    if isinstance(value, list):
        return all(_is_sure(item, text) for item in value)
    if isinstance(value, dict):
        # A name that took in what follows it has merged two objects into one.
        if _END in value or any(_RUN_ON.search(name) for name in value):
            return False
        return all(_is_sure(item, text) for item in value.values())
    return True


def _folded_keys(value: dict[str, Any]) -> dict[str, Any]:
    return {name.casefold(): item for name, item in value.items()}


def _folded(item: dict[str, Any]) -> dict[str, Any]:
    """The item with all names of fields, its own and those of objects it lists, in lower case."""
    return {
        name: [_folded(v) if isinstance(v, dict) else v for v in value]
        if isinstance(value, list)
        else value
        for name, value in _folded_keys(item).items()
    }


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


def answer_of(text: str) -> str:
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
