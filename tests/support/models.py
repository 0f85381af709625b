"""Scripted models for a trial: they read the prompts, and know the planted concepts or do not."""

import hashlib
import json
import math
import re
from typing import Any

from autointerp.trial.concepts import Concept, concepts
from tests.support import scripted
from tests.support.fake_server import Reply
from tests.support.scripted import asks_for_labels
from tests.support.simulators import openai_reply

_LINE = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
_FEATURE = re.compile(r"^Feature (\d+) ", re.MULTILINE)
_TOKENS = re.compile(r"^(\d+) \(\d+ tokens\): (.*)$", re.MULTILINE)
_COLORS = re.compile(r"^(\d+)\. (\w+)$", re.MULTILINE)


class Model:
    """A model that is always right. The others change a part of what it does."""

    def __call__(self, request: dict[str, Any]) -> str | Reply:
        if "numbered colours" in request["messages"][0]["content"]:
            found = _COLORS.findall(request["messages"][0]["content"])
            return json.dumps({"colours": [{"n": int(n), "name": name} for n, name in found]})
        if len(request["messages"]) == 1:  # how warm something is
            return self.warmth()
        if "top_logprobs" in request or "prompt_logprobs" in request:
            return self.with_logprobs(request)
        return self.answer(request)

    def warmth(self) -> str | Reply:
        return "5"

    def with_logprobs(self, request: dict[str, Any]) -> str | Reply:
        """By default there are none."""
        return self.answer(request)

    def answer(self, request: dict[str, Any]) -> str:
        system, user = (m["content"] for m in request["messages"][:2])
        if asks_for_labels(request):
            if not any(text in _plain(user) for c in concepts() for text in c.texts):
                return scripted.answer(request)
            return json.dumps({"labels": self.labels(request)})
        concept = described(user)
        if '"activations"' in system:
            return json.dumps(
                {"windows": [self.simulated(concept, *w) for w in _TOKENS.findall(user)]}
            )
        numbered = [(int(n), text) for n, text in _LINE.findall(user)]
        truths = [self.says_yes(concept, text, "Marked tokens" in user) for _, text in numbered]
        return self.judged([n for n, _ in numbered], truths, system)

    def judged(self, numbers: list[int], yes: list[bool], system: str) -> str:
        fuzzed = "marked tokens" in system
        first, second = ("right", "wrong") if fuzzed else ("match", "no_match")
        if f'"{second}"' in system:
            chosen = [n for n, y in zip(numbers, yes, strict=True) if y]
            return json.dumps({first: chosen, second: [n for n in numbers if n not in chosen]})
        entries = zip(map(str, numbers), yes, strict=True)
        if '"quote"' in system:
            return json.dumps({n: {"quote": "", first: y} for n, y in entries})
        return json.dumps(dict(entries))

    def says_yes(self, concept: Concept, text: str, fuzzed: bool) -> bool:
        if fuzzed:
            marked = re.findall(r"<<(.*?)>>", text)
            return bool(marked) and all(re.search(concept.pattern, m) for m in marked)
        return re.search(concept.pattern, text) is not None

    def labels(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        user = request["messages"][1]["content"]
        parts = _FEATURE.split(user)[1:]
        return [
            {
                "n": int(n),
                "reason": "seen",
                "label": self.label(body),
                "confidence": 1,
            }
            for n, body in zip(parts[::2], parts[1::2], strict=True)
        ]

    def label(self, shown: str) -> str:
        return next(c.label for c in concepts() if any(t in _plain(shown) for t in c.texts))

    def simulated(self, concept: Concept, number: str, tokens: str) -> dict[str, Any]:
        fires = [re.search(concept.pattern, token) is not None for token in json.loads(tokens)]
        return {"w": int(number), "activations": [10 * f for f in fires]}


class Coin(Model):
    """A judge that tosses a coin, the same one for the same question."""

    def says_yes(self, concept: Concept, text: str, fuzzed: bool) -> bool:
        return hashlib.sha256(f"{concept.label}{text}".encode()).digest()[0] % 2 == 0


class Yes(Model):
    def says_yes(self, concept: Concept, text: str, fuzzed: bool) -> bool:
        return True


class Counting(Model):
    """Lists are counted to the token limit, past the last excerpt; other forms are answered."""

    def judged(self, numbers: list[int], yes: list[bool], system: str) -> str:
        if '"no_match"' in system or '"wrong"' in system:
            first = "right" if '"wrong"' in system else "match"
            return f'{{"{first}": [' + ", ".join(map(str, range(1, 90)))
        return super().judged(numbers, yes, system)


class Copying(Model):
    """The template's example is given back for every feature."""

    def labels(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        example = json.loads(re.search(r'\{"labels": .*\}', request["messages"][0]["content"])[0])
        return [
            label | example["labels"][0] | {"n": label["n"]} for label in super().labels(request)
        ]


class Mended(Copying):
    """The example is given back where there is one."""

    def labels(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        has_example = '"label": "…"' not in request["messages"][0]["content"]
        return super().labels(request) if has_example else Model.labels(self, request)


class Collapsing(Model):
    """Several features of a request get the first one's label."""

    def labels(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        found = super().labels(request)
        return [label | {"label": found[0]["label"]} for label in found]


class Ranking(Model):
    """Gives log probabilities; as a judge it is timid: it says no to everything, and ranks well."""

    def warmth(self) -> str | Reply:
        return Reply("5", {"logprobs": {"content": [_token("5")]}})

    def with_logprobs(self, request: dict[str, Any]) -> str | Reply:
        system, user = (m["content"] for m in request["messages"][:2])
        if "prompt_logprobs" in request:
            return self.answer(request)
        concept = described(user)
        if "Predict how strongly" in system:
            return openai_reply(request, lambda _, token: _digits(concept, token))
        written = json.loads(Model().answer(request))
        tokens = [_token("{")]
        for number, yes in written.items():
            tokens += [_token(f'"{number}"'), _token(": "), _verdict(0.4 if yes else 0.1)]
            tokens.append(_token(", "))
        tokens[-1] = _token("}")
        text = "".join(token["token"] for token in tokens)
        return Reply(text, {"logprobs": {"content": tokens}})

    def judged(self, numbers: list[int], yes: list[bool], system: str) -> str:
        return super().judged(numbers, [False] * len(yes), system)


def _token(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -0.01, "top_logprobs": [{"token": text, "logprob": -0.01}]}


def _verdict(chance: float) -> dict[str, Any]:
    both = {"false": math.log(1 - chance), "true": math.log(chance)}
    likely = [{"token": token, "logprob": logprob} for token, logprob in both.items()]
    return likely[0] | {"top_logprobs": likely}


def _digits(concept: Concept, token: str) -> list[float]:
    fires = re.search(concept.pattern, token) is not None
    return [0.0] * 8 + [0.3, 0.7] if fires else [0.9, 0.1] + [0.0] * 8


def _plain(shown: str) -> str:
    return re.sub(r"<<|>>", "", shown)


def described(user: str) -> Concept:
    """What is asked about: a planted concept, or the words of another label."""
    label = re.search(r"^Description: (.*)$", user, re.MULTILINE)[1]
    words = "|".join(re.findall(r"\w+", label))
    other = Concept(label, "", rf"\b({words})\b", (), ())
    return next((c for c in concepts() if c.label == label), other)
