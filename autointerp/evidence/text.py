"""Windows as one line of text for a prompt: whitespace visible, active tokens marked."""

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from autointerp.evidence.window import Window
from autointerp.vocabulary import Vocabulary

_MARKS = (("<<", ">>"), ("⟦", "⟧"), ("{{{", "}}}"), ("«", "»"), ("⟪", "⟫"), ("◀◀", "▶▶"))
_ACTIVE_SHARE = 0.3  # of the window's largest activation, from which a token is marked
STRENGTH_BAR = "|"  # between a run of active tokens and its strength: the last one before the mark


# What chat models take for the end of a turn, were it in a prompt as it stands.
_CONTROL_MARK = re.compile(r"<(\||｜)([^|｜<>\s]{1,40})\1>")


def harmless(text: str) -> str:
    """The text with control marks such as `<|im_end|>` written `<¦im_end¦>`."""
    if "<" not in text:
        return text
    return _CONTROL_MARK.sub(r"<¦\2¦>", text)


def one_line(text: str) -> str:
    """The text with line breaks and tabs shown as ⏎ and ⇥ and control characters as ·."""
    text = harmless(text)
    if text.isprintable():
        return text
    shown = text.replace("\r\n", "⏎").replace("\n", "⏎").replace("\r", "⏎").replace("\t", "⇥")
    return "".join(c if c.isprintable() else "·" for c in shown)


@lru_cache(maxsize=1 << 17)
def _shown(piece: str) -> str:
    """`one_line` of a token's text: there are few of them, shown again and again."""
    return one_line(piece)


def quoted(text: str) -> str:
    """A token in quotes, whitespace visible."""
    return f"'{one_line(text)}'"


def free_marks(texts: Iterable[str]) -> tuple[str, str]:
    """A pair of marks that occurs in none of the texts."""
    joined = "\n".join(texts)
    for opening, closing in _MARKS:
        if opening not in joined and closing not in joined:
            return opening, closing
    number = 0
    while f"[on{number}]" in joined or f"[off{number}]" in joined:
        number += 1
    return f"[on{number}]", f"[off{number}]"


def strength(activation: float, maximum: float) -> int:
    """The activation on a scale on which the feature's largest one is 10."""
    return round(10 * activation / maximum)


def marked(
    window: Window, vocabulary: Vocabulary, marks: tuple[str, str], maximum: float | None = None
) -> str:
    """The window on one line with runs of active tokens between the marks.

    With `maximum`, the feature's largest activation, each run ends in a bar and the strength of
    its strongest token: `<< token|7>>`.
    """
    pieces = vocabulary.pieces(window.token_ids.tolist())
    activations = window.activations.tolist()
    largest = max(activations, default=0.0)
    active = [largest > 0 and a >= _ACTIVE_SHARE * largest for a in activations]
    parts: list[str] = []
    begin = 0
    for i, piece in enumerate(pieces):
        if active[i] and (i == 0 or not active[i - 1]):
            parts.append(marks[0])
            begin = i
        parts.append(_shown(piece))
        if active[i] and (i + 1 == len(pieces) or not active[i + 1]):
            if maximum is not None:
                strongest = max(activations[begin : i + 1])
                parts.append(f"{STRENGTH_BAR}{strength(strongest, maximum)}")
            parts.append(marks[1])
    return harmless("".join(parts))


def peak_text(window: Window, vocabulary: Vocabulary) -> str:
    return quoted(vocabulary.token_text(int(window.token_ids[window.peak])))


def token_list(token_ids: Sequence[int], vocabulary: Vocabulary) -> str:
    """The tokens as a JSON list of strings."""
    return json.dumps([_shown(p) for p in vocabulary.pieces(token_ids)], ensure_ascii=False)
