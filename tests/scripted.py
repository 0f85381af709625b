"""A scripted labeling model and judge: it reads the prompts as they are sent.

It labels a feature with the words that are marked most often, and judges by whether a label's
words occur. It knows nothing of the planted truth.
"""

import json
import re
from collections import Counter
from typing import Any

_BLOCK = re.compile(r"^Feature \d+ ", re.MULTILINE)
_MARKS = re.compile(r"^Active tokens stand between (\S+) and (\S+)\.$", re.MULTILINE)
_LINE = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
_TOKENS = re.compile(r"^(\d+) \(\d+ tokens\): (.*)$", re.MULTILINE)


def answer(request: dict[str, Any]) -> str:
    system, user = (m["content"] for m in request["messages"])
    if '"labels"' in system:
        blocks = _BLOCK.split(user)[1:]
        marks = map(re.escape, _MARKS.search(user).groups())
        marked = re.compile("(.*?)".join(marks))
        return json.dumps(
            {"labels": [label(n, marked.findall(block)) for n, block in enumerate(blocks, 1)]}
        )
    words = set(re.search(r"^Description: (.*)$", user, re.MULTILINE)[1].split())
    if '"no_match"' in system:
        lines = _LINE.findall(user)
        match = [int(n) for n, text in lines if words & set(text.split())]
        others = [int(n) for n, _ in lines if int(n) not in match]
        return json.dumps({"match": match, "no_match": others})
    windows = [
        {"w": int(n), "activations": [8 if t.strip() in words else 0 for t in json.loads(tokens)]}
        for n, tokens in _TOKENS.findall(user)
    ]
    return json.dumps({"windows": windows})


def label(number: int, runs: list[str]) -> dict[str, Any]:
    counts = Counter(word for run in runs for word in run.split())
    words = [word for word, _ in counts.most_common(2)] or ["blank"]
    return {"n": number, "label": " ".join(words), "reason": "marked", "confidence": 0.9}
