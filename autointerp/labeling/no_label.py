"""Detects text in a label's place that is not a label.

Models give back the template's example or its instructions, decline in words, or write nothing.
Each kind is told by what the model was shown: words of the feature's own excerpts are never held
against a label, since a feature may well be about ferries, or about apologies.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from autointerp.evidence.window_text import HALF_CHARACTER as HALF_CHARACTER
from autointerp.labeling.labeler import Draft
from autointerp.plain_text import line_for_person, tidy

COPIED, BORROWED, INSTRUCTIONS, HEADING = "copied", "borrowed", "instructions", "heading"
DECLINED, EMPTY, LOOPED, HALF = "declined", "empty", "looped", "half_characters"
ALIKE, MISCOUNTED, LEFT_OUT = "alike", "miscounted", "left_out"
# Kind → what a run's summary says of so many labels, in the order in which it is said.
KINDS = {
    COPIED: "copied from the template's example",
    BORROWED: "with words of the template's example that are not in the excerpts",
    INSTRUCTIONS: "quoting the template's instructions",
    HEADING: "giving back the numbers above the excerpts",
    DECLINED: "in which the model declines to answer",
    EMPTY: "without a word",
    LOOPED: "repeating one word over and over",
    HALF: "with an incomplete character (�)",
    ALIKE: "the same for most features of a request",
    MISCOUNTED: "from replies with more or other features than requested",
    LEFT_OUT: "missing from replies with fewer features than requested",
}
# These come of the example: what is asked again is asked without it.
FROM_EXAMPLE = (COPIED, BORROWED, INSTRUCTIONS)
BLANK = "…"  # in the place of an example's texts

_ALIKE = 3  # features from which on one label for most of a request is not believed
_MIN_QUOTED = 3  # words of a label that is all quotation
_LONG_RUN = 5  # words in sequence that nobody writes by chance
_MIN_RECITED = 3
_MANY, _MANY_SHARE = 5, 0.1  # features with the same label, from which on a run says so
_EXAMPLE = re.compile(r'("(?:label|reason)"\s*:\s*")((?:[^"\\]|\\.)+)(")')
_QUOTED = re.compile(r'"(\w[^"\n]{0,40})"')
_IN_QUOTES = re.compile(r"['\"`‘“]([^'\"`‘’“”]*)['\"`’”]")
_NOT_SENT = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
_LOOP = re.compile(r"([^\W_]{1,20}[\W_]{1,3})\1{7,}")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# What labels of all kinds are made of: that an example has them as well says nothing.
_USUAL = frozenset(
    _WORD.findall(
        "a an and are as at after before between by each end ending ends every first for from in "
        "inside into is it its last like mark marked marks name names of on one or part parts "
        "right some start starts such text texts that the their then these this to token tokens "
        "two type types where which with within word words"
    )
)
_WHAT = r"(?:pattern|label|meaning|theme|answer|explanation|feature|token|information|context)s?"
_VERB = (
    r"(?:determin\w*|identif\w+|infer\w*|tell|say|label\w*|explain\w*|provid\w+|answer\w*"
    r"|assist\w*)"
)
_VAGUE = (
    "clear|obvious|common|consistent|apparent|discernible|specific|single|particular|meaningful"
    "|identifiable|coherent"
)
_DECLINES = re.compile(
    rf"""
    (?:i'?m|i\ am|we\ are)\ (?:very\ )?sorry\b
    | sorry,?\ (?:but\ )?i\b
    | i\ apologi[sz]e\b
    | as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b
    | i(?:\ am|'m)\ (?:unable|not\ (?:able|sure)|an\ ai)\b
    | i\ (?:can'?t|can\ ?not|could\ not|couldn't|do\ not|don't)\ (?:\w+\ )?
        (?:{_VERB}|help|know|have|see)\b
    | (?:\w+\ ){{0,3}}(?:can\ ?not|could\ not|can't)\ be\ {_VERB}\b
    | (?:can\ ?not|can't|unable\ to|not\ able\ to|impossible\ to|not\ possible\ to)\ {_VERB}\b
    | (?:there\ (?:is|are|was)\ )?(?:not\ enough|insufficient)\ (?:\w+\ )?
        (?:{_WHAT}|data|evidence|examples?)\b
    | (?:there\ (?:is|are|was)\ )?no\ (?:(?:{_VAGUE})\ ){{1,2}}{_WHAT}\b
    | (?:no\ {_WHAT}(?:\ (?:found|given|provided|available|possible))?
        | (?:unknown|unclear)(?:\ {_WHAT})?
        | undetermined|indeterminate|unlabell?ed
        | not\ (?:applicable|available|known|sure|clear|provided|specified|given)
        | n/?a|none|null|nil|tbd|to\ be\ determined|placeholder)\W*$
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Passages:
    """Texts as words between single spaces, and their long runs of words."""

    texts: tuple[str, ...] = ()
    runs: frozenset[tuple[str, ...]] = frozenset()

    def are_quoted(self, words: Sequence[str]) -> bool:
        """Whether the words are part of one of the texts, or most of them a long part."""
        quoted = f" {' '.join(words)} "
        if len(words) >= _MIN_QUOTED and any(quoted in text for text in self.texts):
            return True
        inside = [run in self.runs for run in _runs(words)]
        begun = sum(now and not before for before, now in pairwise([False, *inside]))
        return 2 * (sum(inside) + (_LONG_RUN - 1) * begun) > len(words)


@dataclass(frozen=True, slots=True)
class Template:
    """What a template says, in its instructions and in its examples.

    `quoted` is what the instructions name: fields of the reply, words to avoid. `texts` are the
    examples' labels and reasons, `telling` their words that are not `usual`: neither the
    instructions nor labels in general have them.
    """

    instructions: Passages
    quoted: frozenset[str]
    examples: Passages = Passages()
    texts: frozenset[str] = frozenset()
    telling: frozenset[str] = frozenset()
    usual: frozenset[str] = _USUAL

    def without_examples(self) -> "Template":
        return Template(self.instructions, self.quoted, usual=self.usual)


@lru_cache(maxsize=16)
def template_of(source: str) -> Template:
    """A template by its source, without what is not sent."""
    sent = _NOT_SENT.sub(" | ", source)
    texts = [found[2] for found in _EXAMPLE.finditer(sent) if found[2] != BLANK]
    instructions = [_words(part) for part in re.split(r"[|{}\[\]]", _EXAMPLE.sub(" | ", sent))]
    examples = [_words(text) for text in texts]
    usual = _USUAL.union(*instructions)
    named = _QUOTED.findall(_EXAMPLE.sub(r"\1\3", sent))
    return Template(
        _passages(instructions),
        frozenset(map(same, named)),
        _passages(examples),
        frozenset(same(tidy(text)) for text in texts),
        frozenset(word for words in examples for word in words if word not in usual),
        usual,
    )


def _passages(every: Sequence[Sequence[str]]) -> Passages:
    texts = tuple(f" {' '.join(words)} " for words in every if words)
    return Passages(texts, frozenset(run for words in every for run in _runs(words)))


def without_example(
    messages: Sequence[Mapping[str, str]], template: Template
) -> list[dict[str, str]]:
    """The messages with nothing in the template's examples that could be taken for an answer.

    Excerpts may hold labels in JSON as well: those stay as they are.
    """

    def blanked(found: re.Match[str]) -> str:
        return f"{found[1]}{BLANK}{found[3]}" if same(found[2]) in template.texts else found[0]

    return [
        dict(message, content=_EXAMPLE.sub(blanked, message["content"])) for message in messages
    ]


def same(label: str) -> str:
    """What labels that differ in case, spacing or punctuation at words have in common."""
    return " ".join(_bare(part) for part in label.casefold().split())


def _bare(part: str) -> str:
    """Without the punctuation around it, unless it is nothing else."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", part) or part


def doubt(label: str, template: Template, shown: Callable[[], str]) -> str | None:
    """Why a text is not a label, as one of KINDS; None where it is one.

    shown: the text of the feature's excerpts, wanted only where there is a suspicion.
    """
    if same(label) in template.texts:
        return COPIED
    words = _words(label)
    if label == BLANK or (not words and not _signs(label, shown())):
        return EMPTY
    if (found := _DECLINES.match(label.casefold().replace("’", "'"))) is not None:
        return None if _has(shown(), _words(found[0])) else DECLINED
    if (found := _LOOP.search(label)) is not None and found[0] not in shown():
        return LOOPED
    quoted = same(label) in template.quoted or template.instructions.are_quoted(words)
    if quoted and not _has(shown(), words):
        return INSTRUCTIONS
    telling = [word for word in words if word in template.telling]
    if telling or template.examples.are_quoted(words):
        seen = shown().casefold()
        if not all(_stem(word) in seen for word in telling or words):
            return BORROWED
    return HALF if HALF_CHARACTER in label else None


def alike(labels: Mapping[int, str]) -> set[int]:
    """The places of labels, of all in a request, that are the same as most of the others."""
    places: dict[str, set[int]] = {}
    for place, label in labels.items():
        places.setdefault(same(label), set()).add(place)
    largest = max(places.values(), key=len, default=set())
    return largest if len(largest) >= _ALIKE and 2 * len(largest) > len(labels) else set()


def declines(text: str) -> bool:
    """Whether a reply without any label declines in words."""
    return _DECLINES.match(text.strip().casefold().replace("’", "'")) is not None


def gives_heading(label: str, density_percent: str) -> bool:
    """Whether a label gives back on what share of tokens the feature is active, as it was told.

    Small models give back other features' shares, too, but always as a share of tokens.
    """
    told = rf"{re.escape(density_percent)}|{BLANK}"
    anothers = r"\bactive on (?:about )?[\d.,]+\s*% of (?:all |the )*tokens"
    return re.search(rf"(?<![\d.,])(?:{told})\s*%|{anothers}", label) is not None


def recites(label: str, tokens: Callable[[], Iterable[str]], template: Template) -> bool:
    """Whether a label only lists tokens that the model was shown, in words of the template."""
    label = label.casefold()
    known = {"", "space", "tab", "newline"}.union(t.strip().casefold() for t in tokens())
    listed = [part.strip() for part in _IN_QUOTES.findall(label)]
    own = [w for w in _words(_IN_QUOTES.sub(" ", label)) if w not in template.usual | known]
    if len(listed) >= _MIN_RECITED and known.issuperset(listed) and not own:
        return True
    parts = [part.strip(" '\"`“”‘’.") for part in re.split(r",|;|\bor\b|\band\b", label)]
    parts = [part for part in parts if part]
    if len(parts) < _MIN_RECITED:
        return False
    return known.issuperset(parts)


def _signs(label: str, shown: str) -> bool:
    """Whether a label without words names what stands in the excerpts, in quotes or not."""
    named = [part[1:-1].strip() or part for part in (label, *label.split())]
    return named[0] in shown or all(part in shown for part in named[1:])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("’", "'"))


def _runs(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + _LONG_RUN]) for i in range(len(words) - _LONG_RUN + 1)]


def _has(shown: str, words: Sequence[str]) -> bool:
    """Whether the excerpts have these words in this order."""
    return f" {' '.join(words)} " in f" {' '.join(_words(shown))} "


def _stem(word: str) -> str:
    """Ferries and a ferry are one thing."""
    return word[: max(4, len(word) - 3)]


def counts(drafts: Iterable[Draft]) -> dict[str, dict[str, int]]:
    """Kind → of how many features a reply was of it, and what became of these by status."""
    found: dict[str, Counter[str]] = {}
    for draft in drafts:
        for kind in dict.fromkeys(draft.asked_again or ()):
            found.setdefault(kind, Counter())[draft.status] += 1
    return {kind: dict(found[kind]) for kind in KINDS if kind in found}


def _counted(labels: int) -> str:
    return f"{labels:,} {'label' if labels == 1 else 'labels'}"


def summary(drafts: Collection[Draft]) -> Iterator[str]:
    """Lines for the user on replies that were not labels, and on labels that are doubtful."""
    for kind, outcomes in counts(drafts).items():
        ranked = sorted(outcomes, key=lambda status: (status != "labeled", status))
        words = {status: status for status in outcomes} | {"labeled": "then labeled"}
        became = [f"{outcomes[status]:,} {words[status]}" for status in ranked]
        how = "in smaller groups" if kind in (MISCOUNTED, LEFT_OUT) else "alone"
        total = _counted(sum(outcomes.values()))
        yield f"{total} {KINDS[kind]}, retried {how}: {', '.join(became)}"
    flags = Counter(flag for draft in drafts for flag in draft.flags or ())
    for flag, n in flags.items():
        yield f"{_counted(n)} kept with the flag {flag}"
    labels = Counter(same(draft.label) for draft in drafts if draft.label and not draft.rule)
    label, n = labels.most_common(1)[0] if labels else ("", 0)
    if n >= _MANY and n >= _MANY_SHARE * labels.total():
        yield f"{n:,} of {labels.total():,} labels are the same: {line_for_person(label)!r}"
