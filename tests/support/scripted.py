"""A scripted labeling model and judge: it reads the prompts as they are sent.

It labels a feature with the words that are marked most often, and judges by whether a label's
words occur. It knows nothing of the planted truth.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.support import peer_forms

_FEATURE = re.compile(
    r"Feature (\d+) \(active on (?:an unknown|\S+) % of tokens; most often on (.*)\)"
)
_MARKS = re.compile(
    r"^Active tokens stand between (\S+) and (\S+?)"
    r"(, each run of them with its strength after the last \|)?\.$",
    re.MULTILINE,
)
_MARKED = re.compile(r"^Marked tokens stand between (\S+) and (\S+)\.$", re.MULTILINE)
_OUTPUT = re.compile(r"It makes these next tokens likelier: (.*); and these less likely: (.*)")
_SILENT = {
    "It is silent in these, though a similar feature is active:": "near_misses",
    "It is silent in these:": "negatives",
}
_EXCERPT = re.compile(r"\d+\. \['(.*?)' (\d+)\] (.*)")
_CHOICE = re.compile(r"^([A-D])\. (.*)$", re.MULTILINE)
_RUN = re.compile(r"<<(.*?)>>")
_LINE = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
_TOKENS = re.compile(r"^(\d+) \(\d+ tokens\): (.*)$", re.MULTILINE)


@dataclass
class Excerpt:
    """An excerpt as the labeler reads it; a run's strength is None where none is given."""

    peak: str
    strength: int
    text: str  # without marks
    runs: list[tuple[str, int | None]]


@dataclass
class Asked:
    """What a labeling prompt says of one feature."""

    number: int
    top_tokens: list[str]
    excerpts: list[Excerpt] = field(default_factory=list)
    near_misses: list[str] = field(default_factory=list)
    negatives: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    lowered: list[str] = field(default_factory=list)


def _quoted(listed: str) -> list[str]:
    return re.findall(r"'(.*?)'", listed)


def _excerpt(line: str, opening: str, closing: str, numbers: bool) -> Excerpt:
    peak, strength, marked = _EXCERPT.fullmatch(line).groups()
    text, runs = "", []
    for i, part in enumerate(re.split(f"{re.escape(opening)}|{re.escape(closing)}", marked)):
        if i % 2:
            run, _, number = part.rpartition("|") if numbers else (part, "", None)
            runs.append((run, int(number) if numbers else None))
            text += run
        else:
            text += part
    return Excerpt(peak, int(strength), text, runs)


def asked(request: dict[str, Any]) -> list[Asked]:
    """The features of a labeling request. A line that is of no known form is an error."""
    user = request["messages"][1]["content"]
    found = _MARKS.search(user)
    opening, closing, numbers = found.groups()
    features: list[Asked] = []
    listed: list[str] = []
    for line in user[found.end() :].splitlines():
        if begun := _FEATURE.fullmatch(line):
            features.append(Asked(int(begun[1]), _quoted(begun[2])))
        elif output := _OUTPUT.fullmatch(line):
            features[-1].raised, features[-1].lowered = map(_quoted, output.groups())
        elif line in _SILENT:
            listed = getattr(features[-1], _SILENT[line])
        elif line.startswith("- "):
            listed.append(line.removeprefix("- "))
        elif line:
            number = int(line.partition(".")[0])
            features[-1].excerpts.append(_excerpt(line, opening, closing, bool(numbers)))
            assert number == len(features[-1].excerpts)
    return features


def asks_for_labels(request: dict[str, Any]) -> bool:
    return '"labels"' in request["messages"][0]["content"]


def answer(request: dict[str, Any]) -> str:
    if asks_for_labels(request):
        return json.dumps({"labels": [label(f.number, f) for f in asked(request)]})
    system, user = (m["content"] for m in request["messages"][:2])
    if '"intruder"' in system:
        return json.dumps({"sets": [intruder(n, t) for n, t in _sets(user)]})
    if '"A": [' in system:
        return json.dumps(choices(user))
    if "Its key is the excerpt's number" in system:
        return json.dumps(verdicts(system, user))
    if (said := peer_forms.answer(user)) is not None:
        return said
    words = peer_forms.words_of_label(user) or set(
        re.findall(r"\w+", re.search(r"^Description: (.*)$", user, re.MULTILINE)[1])
    )
    if '"no_match"' in system:
        lines = _LINE.findall(user)
        match = [int(n) for n, text in lines if words & set(text.split())]
        others = [int(n) for n, _ in lines if int(n) not in match]
        return json.dumps({"match": match, "no_match": others})
    if '"wrong"' in system:
        marks = _MARKED.search(user).groups()
        right = [int(n) for n, t in _LINE.findall(user) if words & set(_inside(t, *marks))]
        wrong = [int(n) for n, _ in _LINE.findall(user) if int(n) not in right]
        return json.dumps({"right": right, "wrong": wrong})
    if '"partly"' in system:
        lines = _LINE.findall(user)
        clear = [int(n) for n, text in lines if words & set(text.split())]
        others = [int(n) for n, _ in lines if int(n) not in clear]
        return json.dumps({"clear": clear, "partly": [], "none": others})
    if '"texts"' in system:
        number = int(re.search(r"^Texts to write: (\d+)$", user, re.MULTILINE)[1])
        return json.dumps({"texts": [{"text": f"{i} is {' '.join(words)}"} for i in range(number)]})
    windows = [
        {"w": int(n), "activations": [8 if t.strip() in words else 0 for t in json.loads(tokens)]}
        for n, tokens in _TOKENS.findall(user)
    ]
    return json.dumps({"windows": windows})


def verdicts(system: str, user: str) -> dict[str, Any]:
    """Of detection or fuzzing, a boolean for each number, behind a quote where one is asked for."""
    words = set(re.findall(r"\w+", re.search(r"^Description: (.*)$", user, re.MULTILINE)[1]))
    marks = _MARKED.search(user)
    found: dict[str, Any] = {}
    for number, text in _LINE.findall(user):
        shown = _inside(text, *marks.groups()) if marks else text.split()
        fits = sorted(words & set(shown))
        found[number] = bool(fits)
        if '"quote"' in system:
            name = "right" if marks else "match"
            found[number] = {"quote": " ".join(fits[:1]), name: bool(fits)}
    return found


def _inside(text: str, opening: str, closing: str) -> list[str]:
    """The words between marks."""
    runs = re.findall(f"{re.escape(opening)}(.*?){re.escape(closing)}", text)
    return [word for run in runs for word in run.split()]


def _sets(user: str) -> list[tuple[int, list[list[str]]]]:
    """Number and marked words of each window, of every set of an intruder prompt."""
    marks = _MARKED.search(user).groups()
    found = re.split(r"^Set (\d+)$", user, flags=re.MULTILINE)[1:]
    return [
        (int(number), [_inside(text, *marks) for _, text in _LINE.findall(body)])
        for number, body in zip(found[::2], found[1::2], strict=True)
    ]


def intruder(number: int, windows: list[list[str]]) -> dict[str, int]:
    """The window whose marked words are in the fewest others."""
    shared = [sum(bool(set(w) & set(other)) for other in windows) for w in windows]
    return {"n": number, "intruder": shared.index(min(shared)) + 1}


def choices(user: str) -> dict[str, list[int]]:
    """Under each letter the numbers of the windows whose marked words its label names best.

    Of equal ones the first.
    """
    labels = {letter: set(text.split()) for letter, text in _CHOICE.findall(user)}
    found: dict[str, list[int]] = {letter: [] for letter in "ABCD"}
    for number, text in _LINE.findall(user):
        marked = {word for run in _RUN.findall(text) for word in run.split()}
        shared = {letter: len(marked & words) for letter, words in labels.items()}
        found[max(shared, key=shared.__getitem__)].append(int(number))
    return found


def _words(excerpt: Excerpt) -> list[str]:
    return [word for run, _ in excerpt.runs for word in run.split()]


def label(number: int, feature: Asked) -> dict[str, Any]:
    counts = Counter(word for excerpt in feature.excerpts for word in _words(excerpt))
    words = [word for word, _ in counts.most_common(2)] or ["blank"]
    return {"n": number, "label": " ".join(words), "reason": "marked", "confidence": 0.9}


def label_with_meanings(number: int, feature: Asked) -> dict[str, Any]:
    """A meaning for each word, with all excerpts in which it is marked."""
    excerpts: dict[str, list[int]] = {}
    for i, excerpt in enumerate(feature.excerpts, 1):
        for word in dict.fromkeys(_words(excerpt)):
            excerpts.setdefault(word, []).append(i)
    meanings = [{"label": word, "windows": numbers} for word, numbers in excerpts.items()]
    return label(number, feature) | {"meanings": meanings if len(meanings) > 1 else []}
