"""A scripted judge for prompts in other tools' forms: it goes by whether a label's words occur.

The label's line and the numbered texts are read from the prompt as it is sent.
"""

import json
import re

_LABEL = re.compile(r"^(?:Explanation|The neuron (?:looks for|fires on)): (.*)$", re.MULTILINE)
_MARKED = re.compile(r"^Marked tokens stand between (\S+) and (\S+)\.$", re.MULTILINE)
_EXAMPLE = re.compile(r"^Example \d+: ?(.*)$", re.MULTILINE)
_LINE = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)


def words_of_label(user: str) -> set[str] | None:
    """None where the prompt is in no other tool's form."""
    found = _LABEL.search(user)
    return set(re.findall(r"\w+", found[1])) if found else None


def examples(user: str) -> list[str]:
    """The texts that are numbered from 0; where there are marks, what is between them."""
    texts = _EXAMPLE.findall(user)
    marks = _MARKED.search(user)
    if marks is None:
        return texts
    between = f"{re.escape(marks[1])}(.*?){re.escape(marks[2])}"
    return [" ".join(re.findall(between, text)) for text in texts]


def answer(user: str) -> str | None:
    """The reply to yes-or-no questions; None where the prompt is none of these."""
    words = words_of_label(user)
    if words is None:
        return None
    if texts := examples(user):
        return str([int(bool(words & set(re.findall(r"\w+", text)))) for text in texts])
    if "A reply may look like this:" in user:
        hits = [n for n, text in _LINE.findall(user) if words & set(re.findall(r"\w+", text))]
        return ", ".join(hits) or "None"
    if user.startswith("["):
        pairs = json.loads(user.partition("\n")[0])
        active = {pair["token"].strip() for pair in pairs if pair["activation"] > 0}
        return json.dumps({"match": bool(words & active), "reason": "it occurs"})
    return None
