"""Text from models, servers and corpora, made safe to show and to put into a prompt.

What is stored stays as it is; what is shown, on a terminal, in a log or to a model, goes through
here. Shown text is one line, without characters that are invisible or that a terminal obeys, and
without the marks by which chat models tell turns apart.
"""

import json
import re
from typing import Any

from autointerp.secrets import masked

MAX_LINE = 2000  # characters of a line for a person

# What chat models take for the end of a turn, were it in a prompt as it stands.
_BARRED = re.compile(r"<(\||｜)([^|｜<>\s]{1,40})\1>")
_NAMES = (
    r"s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|start_of_image|end_of_image"
    r"|begin_of_text|end_of_text|end_of_utterance|think|tool_calls?|tool_response|SYS"
    r"|unused\d+|reserved_\d+|SPECIAL_\d+|extra_id_\d+"
)
_ANGLED = re.compile(rf"<<(/?SYS)>>|<(/?(?:{_NAMES}))>")
_BRACKETED = re.compile(
    r"\[(/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|THINK"
    r"|IMG|BOS|EOS|gMASK))\]"
)
_NAMED_ALONE = re.compile(rf"(?:/?(?:{_NAMES}))|(\||｜)[^|｜<>\s]{{1,40}}\1")

# Escape sequences of terminals: CSI (colors, cursor), strings such as OSC (links, titles), others.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
# Printable for Unicode, but nothing is seen of them: fillers, selectors, the joiner of graphemes.
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef"
_COMBINING = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u06d6-\u06dc\u0e31"
    "\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f71-\u0f84\u1ab0-\u1aff"
    "\u1dc0-\u1dff\u20d0-\u20f0\u302a-\u302f\u3099\u309a\ua66f-\ua67d\ufe00-\ufe0f\ufe20-\ufe2f"
)
_STACK = 6  # combining characters on one; no script needs more
_ODD = re.compile(f"[{_UNSEEN}]|([{_COMBINING}]{{{_STACK}}})[{_COMBINING}]+")


def harmless(text: str) -> str:
    """The text with control marks of chat models changed by a character or two, none added.

    `<|im_end|>` becomes `<¦im_end¦>`, `<start_of_turn>` `‹start_of_turn›`, `[INST]` `［INST］`.
    """
    if "<" in text:
        text = _BARRED.sub(r"<¦\2¦>", _ANGLED.sub(_other_brackets, text))
    return _BRACKETED.sub(r"［\1］", text) if "[" in text else text


def _other_brackets(found: re.Match[str]) -> str:
    return f"‹‹{found[1]}››" if found[1] else f"‹{found[2]}›"


def without_bars(text: str) -> str:
    """The text with no control mark such as `<|im_end|>`; other marks stay."""
    return _BARRED.sub(r"<¦\2¦>", text) if "<" in text else text


def acts_between_brackets(text: str) -> bool:
    """Whether `<` before the text and `>` after it make a control mark of it."""
    return _NAMED_ALONE.fullmatch(text) is not None


def one_line(text: str) -> str:
    """The text with line breaks and tabs shown as ⏎ and ⇥, and as · what is unseen or acts.

    These are control and format characters (escapes, NUL, right-to-left overrides, zero-width and
    tag characters), lone surrogates, other line separators, and combining characters beyond six.
    """
    text = harmless(text)
    if text.isprintable():
        return text if text.isascii() else _ODD.sub(_dot, text)
    shown = text.replace("\r\n", "⏎").replace("\n", "⏎").replace("\r", "⏎").replace("\t", "⇥")
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else "·" for c in shown)
    return _ODD.sub(_dot, shown)


def _dot(found: re.Match[str]) -> str:
    kept = found[1] or ""
    return kept + "·" * (len(found[0]) - len(kept))


def tidy(text: str) -> str:
    """What a model or a server wrote as one plain line: words with single spaces between.

    Escape sequences and unseen characters go, control characters count as spaces, and secrets are
    masked.
    """
    text = _ESCAPE.sub("", text)
    if not text.isascii():
        text = _ODD.sub(lambda found: found[1] or "", text)
    if not text.isprintable():
        # Joiners and overrides stand inside words, the rest between them.
        text = "".join(c if c.isprintable() else "" if _is_inside_words(c) else " " for c in text)
    return masked(" ".join(text.split()))


def _is_inside_words(character: str) -> bool:
    return character in _INSIDE or "\U000e0000" <= character <= "\U000e007f"


_INSIDE = frozenset("\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\ufeff") | {
    chr(code) for block in (range(0x202A, 0x202F), range(0x2063, 0x2070)) for code in block
}


def line_for_person(text: object) -> str:
    """Anything as one line for a terminal or a log, of bounded length, secrets masked."""
    shown = masked(one_line(str(text)))
    return shown if len(shown) <= MAX_LINE else shown[: MAX_LINE - 1] + "…"


def json_line(value: Any) -> str:
    """The value as a line of JSON that reads back the same, unseen characters escaped."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`1 feature`, `2,000 features`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listed(features: list[int], most: int = 8) -> str:
    """Ascending features as ids and ranges, `0-99, 512`; of many, the first `most` and the last."""
    parts: list[list[int]] = []
    for feature in features:
        if parts and feature == parts[-1][1] + 1:
            parts[-1][1] = feature
        else:
            parts.append([feature, feature])
    words = [f"{a}-{b}" if b > a else str(a) for a, b in parts]
    return ", ".join(words if len(words) <= most + 1 else [*words[:most], "…", words[-1]])
