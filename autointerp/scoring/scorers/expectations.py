"""Expected activations from the probabilities of digits (Bills et al. 2023, all at once).

A judge gives each token one digit, 0 to 9, and its expected value counts, over the digits that are
among the alternatives, with their probabilities made to sum to 1. The paper's scale is 0 to 10, but
10 is one token for some tokenizers and two for others, where a first token 1 would stand for 1 and
for 10 alike: with single digits the expectation is exact for all of them. Values are put on the
scale 0 to 10 all the same. Where no digit is among the alternatives the value is missing, NaN.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate

import numpy as np

from autointerp.llm.numbering import Miscounted, by_place
from autointerp.llm.wire.logprobs import Position
from autointerp.llm.wire.structured import THINK_END

_DIGITS = {str(digit): digit for digit in range(10)}
_SCALE = 10 / 9

# Shown tokens hold neither tabs nor line breaks, so the lines cannot be forged by a window.
_ASKED = re.compile(r"^([^\t\n]*)\t\?$", re.MULTILINE)
_IN_PROMPT = re.compile(r"([^\t\n]*)\t\?")
_EXCERPT = re.compile(r"^\W*excerpt\W*(\d{1,6})\W*$", re.IGNORECASE)
_NUMBERED = re.compile(r"^[ \t]*(\d{1,6})[ \t]*[\t:|=, ][ \t]*(\d)[ \t]*$")


def expected(position: Position) -> float:
    """Expected activation, 0 to 10, where the position has a digit; NaN without any."""
    found = [
        (_DIGITS[digit], logprob)
        for text, logprob in position.alternatives()
        if (digit := text.strip()) in _DIGITS
    ]
    if not found:
        return math.nan
    largest = max(logprob for _, logprob in found)
    weights = [(digit, math.exp(logprob - largest)) for digit, logprob in found]
    total = sum(weight for _, weight in weights)
    return _SCALE * sum(digit * weight for digit, weight in weights) / total


def asked_lines(sent: str) -> list[str]:
    """What a prompt shows of each token before the tab and the unknown digit."""
    return _ASKED.findall(sent)


def of_prompt(
    positions: Sequence[Position], sent: str, lengths: Sequence[int]
) -> dict[int, np.ndarray]:
    """Expected activations [length] of each window, from the probabilities of a prompt's tokens.

    positions: the whole prompt's, as the server's chat template made it. sent: the message in which
    each token of the windows has a line that ends in a tab and `?`. The digit's place is found as
    the token that begins with the `?`; NaN where the tokenizer made one of tab and `?`. Nothing is
    read where the lines are not the ones that were sent.
    """
    lines = asked_lines(sent)
    text = "".join(position.text for position in positions)
    # The windows are the last that is said, whatever the template puts after them.
    found = list(_IN_PROMPT.finditer(text))[-len(lines) :]
    if len(lines) != sum(lengths) or len(found) != len(lines):
        return {}
    if not all(_plain(m[1]).endswith(_plain(asked)) for m, asked in zip(found, lines, strict=True)):
        return {}
    begins = _begins(positions)
    values = [
        expected(positions[place]) if (place := begins.get(match.end() - 1)) is not None else np.nan
        for match in found
    ]
    ends = list(accumulate(lengths))
    return {
        i: np.array(values[end - length : end], dtype=np.float32)
        for i, (end, length) in enumerate(zip(ends, lengths, strict=True))
    }


def of_reply(
    positions: Sequence[Position], lengths: Sequence[int], scattered: bool = False
) -> dict[int, np.ndarray]:
    """Expected activations [length] of each window, from the probabilities of a reply's tokens.

    The reply has a line `Excerpt 2` before each window and, for each of its tokens, one of the
    token's number, a tab and a digit. A window of which a line is lacking is not read; NaN where
    the digit is part of a longer token. Of two lines of one number the last counts. Raises
    Miscounted where the numbers of the windows are not those that were asked for.
    """
    starts = list(accumulate((len(p.text) for p in positions), initial=0))
    text = "".join(position.text for position in positions)
    thoughts, end, _ = text.rpartition(THINK_END)
    offset = len(thoughts) + len(end)
    windows: dict[int | None, dict[int, float]] = {}
    window: int | None = None
    for line in text[offset:].split("\n"):
        if header := _EXCERPT.match(line):
            window = int(header[1])
        elif numbered := _NUMBERED.match(line):
            place = bisect_right(starts, offset + numbered.start(2)) - 1
            alone = positions[place].text.strip() == numbered[2]
            value = expected(positions[place]) if alone else math.nan
            windows.setdefault(window, {})[int(numbered[1])] = value
        offset += len(line) + 1
    if None in windows and not scattered:
        # The first header may be left out, but then no other is the first.
        if 1 in windows:
            raise Miscounted
        windows[1] = windows.pop(None)
    read = {}
    for place, values in by_place(windows.items(), len(lengths), scattered).items():
        length = lengths[place - 1]
        with suppress(Miscounted):
            found = by_place(values.items(), length)
            if len(found) == length:
                read[place - 1] = np.array([found[n + 1] for n in range(length)], np.float32)
    return read


def _begins(positions: Sequence[Position]) -> dict[int, int]:
    """Where in the joined text a token begins → which one it is."""
    begins = {}
    at = 0
    for place, position in enumerate(positions):
        if position.text:
            begins[at] = place
            at += len(position.text)
    return begins


def _plain(text: str) -> str:
    """What is left of a text however its tokens were decoded: parts of a character may be lost."""
    return "".join(c for c in text if "!" <= c <= "~")
