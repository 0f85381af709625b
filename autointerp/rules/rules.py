"""Rules: what a feature fires on as a few literals, with the phrase a person reads."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

PHRASE_LIMIT = 120
FOLDS = 5  # of the documents, each of which is left out once
# How much of a rule's F1 on its own windows is left on others where documents do not tell, and how
# many of them that weighs. On the demo .65 to .8 and 2 to 8 do about as well.
_PRIOR_SHARE, _PRIOR_DOCUMENTS = 0.65, 4
_QUOTED_VALUES = 8
_BYTE = re.compile(r"\\x[0-9a-f]{2}")
_WHITESPACE = {
    "\n": "newline",
    " ": "space",
    "\t": "tab",
    "\r": "carriage return",
    "\xa0": "no-break space",
}


@dataclass(frozen=True, slots=True)
class Predicate:
    """A set of values, one of which must hold; `codes` is how `literals.Stream` knows them.

    Of the token itself: `token`, `word` (case-folded), `class`, `any`. Of what came before it:
    `always`, `previous`, `previous_word`, `previous_class`, `pair` (two tokens), `line` (a word
    on the same line), `topic` (a word in the window), `start` (a position in the context).
    """

    kind: str
    codes: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Term:
    """One literal: what the token is and what came before it, with what to expect there.

    `levels` (mean activation, 0–10) and `shares` (share of matches that fire, 0–1) have one entry
    for each of the current predicate's values.
    """

    current: Predicate
    context: Predicate
    levels: tuple[float, ...]
    shares: tuple[float, ...]

    def phrase(self, limit: int) -> str:
        """This literal in words; lists of values are cut until it fits in `limit` characters."""
        for shown in range(_QUOTED_VALUES, 1, -1):
            text = self._phrase(shown)
            if len(text) <= limit:
                return text
        return self._phrase(1)

    def _phrase(self, shown: int) -> str:
        where = _context_phrase(self.context, shown)
        if self.current.kind != "any":
            return f"{_current_phrase(self.current, shown)} {where}".rstrip()
        match self.context.kind:
            case "always":
                return "any token"
            case "line":
                return f"anything {where}"
            case "topic":
                return where.removeprefix("in ").replace("somewhere", "anything", 1)
            case "start":
                return where.removeprefix("among ").removeprefix("as ")
            case _:
                return f"the token {where}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How rules did on text that was left out as they were learned, over all folds together.

    Tokens that matched and fired, that matched, and that fired. `documents` have a firing; 0 where
    all text is of one document, so that nothing could be left out.
    """

    hits: int
    matched: int
    firing: int
    documents: int

    @property
    def f1(self) -> float:
        total = self.matched + self.firing
        return 2 * self.hits / total if total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """A disjunction of literals; the first that matches a token gives its level.

    `precision` and `recall` are of tokens, on the windows the rule was learned from. A window
    counts as firing when the chance that any of its matches fires is at least `threshold`.
    `left_out` is None for a rule of an earlier version.
    """

    terms: tuple[Term, ...]
    precision: float
    recall: float
    threshold: float
    active_windows: int
    silent_windows: int
    silent_matched: int
    left_out: LeftOut | None = None

    @property
    def confidence(self) -> float:
        """The F1 of tokens to expect on windows of other documents, of the same kinds.

        On windows that a rule was learned from F1 is too high by about as much as it is below its
        limit on others, both in proportion to 1 / documents: so a rule learned from all of K folds
        gets what those learned without a fold get on it, and 1 / (2 K - 1) of the way from there to
        what it gets on its own windows. For want of documents this is drawn towards what F1 on a
        rule's own windows says by itself. For a rule of an earlier version it is the latter, whole.
        """
        total = self.precision + self.recall
        seen = 2 * self.precision * self.recall / total if total > 0 else 0.0
        if self.left_out is None:
            return seen
        unseen = self.left_out.f1
        unseen += (seen - unseen) / (2 * FOLDS - 1)
        n = self.left_out.documents
        return (n * unseen + _PRIOR_DOCUMENTS * _PRIOR_SHARE * seen) / (n + _PRIOR_DOCUMENTS)

    def phrase(self) -> str:
        """The label: one line, the strongest literals that fit."""
        terms = [term for term in self.terms if not self._is_within_another(term)]
        phrases = [terms[0].phrase(PHRASE_LIMIT)] if terms else ["nothing"]
        for term in terms[1:]:
            left = PHRASE_LIMIT - len("; ".join(phrases)) - 2
            text = term.phrase(left)
            if len(text) > left:
                break
            phrases.append(text)
        text = "; ".join(phrases)
        return text if len(text) <= PHRASE_LIMIT else text[: PHRASE_LIMIT - 1] + "…"

    def _is_within_another(self, term: Term) -> bool:
        """Whether it says that a token is among the first few, and another one says so of more."""
        if (term.current.kind, term.context.kind) != ("any", "start"):
            return False
        bounds = [
            max(other.context.codes)
            for other in self.terms
            if (other.current.kind, other.context.kind) == ("any", "start")
        ]
        return max(term.context.codes) < max(bounds)

    def reason(self) -> str:
        text = (
            f"matches {_percent(self.recall)} of firing tokens in {self.active_windows} windows; "
            f"{_percent(self.precision)} of matches fire"
        )
        if not self.silent_windows:
            return text + "; no silent windows to compare with"
        return text + f"; matches in {self.silent_matched} of {self.silent_windows} silent windows"

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "Rule":
        data = json.loads(text)
        counts = data.get("left_out")
        return Rule(
            **{
                **data,
                "terms": tuple(_term(t) for t in data["terms"]),
                "left_out": None if counts is None else LeftOut(**counts),
            }
        )


def _term(data: dict[str, Any]) -> Term:
    return Term(
        current=_predicate(data["current"]),
        context=_predicate(data["context"]),
        levels=tuple(data["levels"]),
        shares=tuple(data["shares"]),
    )


def _predicate(data: dict[str, Any]) -> Predicate:
    return Predicate(data["kind"], tuple(data["codes"]), tuple(data["texts"]))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _current_phrase(predicate: Predicate, shown: int) -> str:
    match predicate.kind:
        case "token":
            return _listed([show(t) for t in predicate.texts], shown)
        case "word":
            return _listed([show(t) for t in predicate.texts], shown) + _any_case(predicate)
        case _:
            return _listed(predicate.texts, shown)


def _context_phrase(predicate: Predicate, shown: int) -> str:
    quoted = _listed([show(t) for t in predicate.texts], shown)
    match predicate.kind:
        case "always":
            return ""
        case "previous_word":
            return f"right after {quoted}{_any_case(predicate)}"
        case "previous_class":
            return f"right after {_listed(predicate.texts, shown)}"
        case "line":
            return f"on a line after {quoted}"
        case "topic":
            if all(any(c.isalpha() for c in text) for text in predicate.texts):
                return f"in text about {quoted}"
            return f"somewhere after {quoted}"
        case "start":
            first = max(predicate.codes)
            if first == 1:
                return "as the first token of a context"
            return f"among the first {first} tokens of a context"
        case _:
            return f"right after {quoted}"


def _any_case(predicate: Predicate) -> str:
    """Digits, signs and bytes have no case to speak of."""
    texts = [_BYTE.sub("", text) for text in predicate.texts]
    return " in any case" if any(text.upper() != text for text in texts) else ""


def _listed(items: Sequence[str], shown: int) -> str:
    """`a`, `a or b`, `a, b or c`, `a, b or 3 more`."""
    if len(items) > shown:
        items = [*items[:shown], f"{len(items) - shown} more"]
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " or " + items[-1]


def show(text: str) -> str:
    """A token as a person can read it: whitespace in words, everything else in quotes."""
    if text and all(c in _WHITESPACE for c in text):
        return _whitespace(text)
    visible = "".join(
        {"\n": "⏎", "\t": "⇥"}.get(c, c if c.isprintable() else f"\\x{ord(c):02x}") for c in text
    )
    quote = "'" if "'" not in visible else '"' if '"' not in visible else "`"
    return f"{quote}{visible}{quote}"


def _whitespace(text: str) -> str:
    runs: list[tuple[str, int]] = []
    for character in text:
        if runs and runs[-1][0] == character:
            runs[-1] = (character, runs[-1][1] + 1)
        else:
            runs.append((character, 1))
    names = _WHITESPACE
    return " + ".join(names[c] if n == 1 else f"{n} {names[c]}s" for c, n in runs)
