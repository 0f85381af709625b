"""Windows as one line of text for a prompt: whitespace visible, active tokens marked."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, groupby
from operator import itemgetter

import numpy as np

from autointerp.evidence.window import Window
from autointerp.plain_text import acts_between_brackets, without_bars
from autointerp.plain_text import one_line as one_line  # for all who show windows
from autointerp.vocabulary import Vocabulary

USUAL_MARKS = ("<<", ">>")
_MARKS = (USUAL_MARKS, ("⟦", "⟧"), ("{{{", "}}}"), ("«", "»"), ("⟪", "⟫"), ("◀◀", "▶▶"))
_ACTIVE_SHARE = 0.3  # of the window's largest activation, from which a token is marked
HALF_CHARACTER = "\ufffd"  # stands for bytes of an incomplete character
STRENGTH_BAR = "|"  # between a run of active tokens and its strength: the last one before the mark


@lru_cache(maxsize=1 << 17)
def _shown(piece: str) -> str:
    """`one_line` of a token's text: there are few of them, shown again and again."""
    return one_line(piece)


def quoted(text: str) -> str:
    """A token in quotes, whitespace visible."""
    return f"'{one_line(text)}'"


def whole_line(text: str) -> str:
    """A window's text on one line without the parts of characters that it begins or ends with."""
    return one_line(text.strip(HALF_CHARACTER))


def marks_for(windows: Sequence[Window], vocabulary: Vocabulary) -> tuple[str, str]:
    """A pair of marks of whose characters none occurs in the windows.

    Were a text to end with `<`, nobody could tell where the mark `<<` after it begins. Nor do they
    make a control mark of a marked run, as `<<s>>` would.
    """
    texts = [window.text for window in windows]
    marks = _free(texts, _MARKS)
    if marks != _MARKS[0]:
        return marks
    runs = (run for window in windows for run, strongest in _runs(window, vocabulary) if strongest)
    return _free(texts, _MARKS[1:]) if any(map(acts_between_brackets, runs)) else marks


def _free(texts: Iterable[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    joined = "\n".join(texts)
    for opening, closing in pairs:
        if not any(character in joined for character in (opening[0], closing[0])):
            return opening, closing
    number = 0
    while f"[on{number}]" in joined or f"[off{number}]" in joined:
        number += 1
    return f"[on{number}]", f"[off{number}]"


def strength(activation: float, maximum: float) -> int:
    """The activation on a scale on which the feature's largest one is 10."""
    return round(10 * activation / maximum)


def is_marked(activations: np.ndarray) -> np.ndarray:
    """Which tokens count as active in what is shown of their window: bool [length]."""
    values = activations.astype(np.float64)
    return np.asarray((values > 0) & (values >= _ACTIVE_SHARE * values.max(initial=0.0)))


def _runs(window: Window, vocabulary: Vocabulary) -> list[tuple[str, float | None]]:
    """The window's text, shown on one line, in runs of active and of other tokens.

    Each with its largest activation, None where its tokens are not active.
    """
    pieces = [_shown(piece) for piece in vocabulary.pieces(window.token_ids.tolist())]
    joined = "".join(pieces)
    safe = one_line(joined)
    if safe != joined:
        # A control mark or a stack of accents over several tokens: cut anew, its length is kept.
        ends = list(accumulate(map(len, pieces)))
        pieces = [safe[end - len(piece) : end] for end, piece in zip(ends, pieces, strict=True)]
    shown = _by_character(pieces, window, vocabulary)
    runs: list[tuple[str, float | None]] = []
    for is_active, group in groupby(shown, itemgetter(0)):
        tokens = list(group)
        strongest = max(a for _, _, a in tokens) if is_active else None
        runs.append(("".join(piece for _, piece, _ in tokens), strongest))
    return runs


def _by_character(
    pieces: Sequence[str], window: Window, vocabulary: Vocabulary
) -> Iterator[tuple[bool, str, float]]:
    """Whether each token is active, its piece, and its activation.

    The tokens that a character is spread over count as one, which is active if any of them is.
    """
    begun, largest = False, 0.0
    active = is_marked(window.activations).tolist()
    for token, is_active, piece, activation in zip(
        window.token_ids.tolist(), active, pieces, window.activations.tolist(), strict=True
    ):
        begun, largest = begun or is_active, max(largest, activation)
        if piece or not vocabulary.bytes_of(token):
            yield begun, piece, largest
            begun, largest = False, 0.0


def marked(
    window: Window, vocabulary: Vocabulary, marks: tuple[str, str], maximum: float | None = None
) -> str:
    """The window on one line with runs of active tokens between the marks.

    With `maximum`, the feature's largest activation, each run ends in a bar and the strength of
    its strongest token: `<< token|7>>`.
    """
    parts: list[str] = []
    runs = _runs(window, vocabulary)
    for place, (text, strongest) in enumerate(runs):
        if strongest is None:
            # Characters of which the window has only a part.
            text = text.lstrip(HALF_CHARACTER) if place == 0 else text
            parts.append(text.rstrip(HALF_CHARACTER) if place == len(runs) - 1 else text)
            continue
        number = "" if maximum is None else f"{STRENGTH_BAR}{strength(strongest, maximum)}"
        parts += [marks[0], text, number, marks[1]]
    return without_bars("".join(parts))


def peak_text(window: Window, vocabulary: Vocabulary) -> str:
    """The token of the largest activation, in quotes; for part of a character, all of it."""
    text = vocabulary.token_text(int(window.token_ids[window.peak]))
    if HALF_CHARACTER in text:
        pieces = vocabulary.pieces(window.token_ids.tolist())[window.peak :]
        text = next((piece for piece in pieces if piece), text)
    return quoted(text)


def shown_tokens(token_ids: Sequence[int], vocabulary: Vocabulary) -> list[str]:
    """The tokens, each on one line and without tabs."""
    return [_shown(piece) for piece in vocabulary.pieces(token_ids)]


def token_list(token_ids: Sequence[int], vocabulary: Vocabulary) -> str:
    """The tokens as a JSON list of strings."""
    return json.dumps(shown_tokens(token_ids, vocabulary), ensure_ascii=False)
