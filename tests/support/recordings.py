"""What real models replied (tests/data/replies, by scripts/record_replies.py), and to what.

Of a request a recording has what its reader is told: the task, the numbers that were asked for, how
long windows are. Jobs are made of that with windows that stand in for those that were shown.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.labeling.excerpts import Shown
from autointerp.labeling.label_reply import read_labels
from autointerp.labeling.llm import LabelJob, LabelSettings
from autointerp.llm.wire.logprobs import Position
from autointerp.llm.wire.reply import ChatReply, Usage
from autointerp.prompting.prompts import BUNDLED, Prompt, load_prompt
from autointerp.scoring import SCORERS
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.null import Labeled
from autointerp.scoring.scorer import Item, Plan, Scorer, Task, TokenTask
from autointerp.scoring.scorers.choices import Choices
from autointerp.scoring.scorers.concept_texts import TASK as TEXTS
from autointerp.scoring.scorers.concept_texts import TextJob, read_texts
from autointerp.vocabulary import Vocabulary
from tests.support.samples import evidence, window

FOLDER = Path(__file__).parents[1] / "data" / "replies"
LABEL = "label"
Row = Mapping[str, Any]

_TASKS: dict[str, tuple[Scorer, Task | TokenTask]] = {
    name: (scorer, task) for scorer in SCORERS.values() for name, task in scorer.templates().items()
}
_VOCABULARY = Vocabulary((b" a", b" b"), frozenset())
_PROMPTS: dict[str, Prompt] = {}
# What a scorer of its own ways shows beside the windows is not read.
_MARKED = np.array([True, False])


def recordings() -> list[Row]:
    return [
        json.loads(line)
        for path in sorted(FOLDER.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def prompt_of(task: str) -> Prompt:
    if task not in _PROMPTS:
        _PROMPTS[task] = load_prompt(task, BUNDLED)
    return _PROMPTS[task]


def reply_of(row: Row) -> ChatReply:
    positions = [
        Position(text, [{"token": other, "logprob": logprob} for other, logprob in others])
        for text, others in row.get("positions", [])
    ]
    return ChatReply(
        text=row["reply"],
        finish_reason=row["finish_reason"],
        declined=False,
        usage=Usage(100, 10),
        prompt=positions if "sent" in row else (),
        tokens=() if "sent" in row else positions,
        key="key",
    )


def job_of(row: Row) -> LabelJob | JudgeJob | TextJob:
    """The job whose request the recording answers."""
    if row["task"] == LABEL:
        return _label_job(row)
    if row["task"] == TEXTS:
        return TextJob(0, "a label", len(row["asked"]), prompt_of(TEXTS), "m", 0.0)
    scorer, task = _task(row)
    items = items_of(row)
    return JudgeJob(
        scorer=scorer,
        plan=Plan(0, items, 0.1),
        label_of=0,
        label=row["label"],
        prompt=prompt_of(row["task"]),
        vocabulary=_VOCABULARY,
        settings=JudgeSettings("m", 0.0, len(items)),
        todo=tuple(range(len(items))),
        chosen_task=task,
        scattered=row["scattered"],
    )


def _task(row: Row) -> tuple[Scorer, Task | TokenTask]:
    scorer, task = _TASKS[row["task"]]
    return scorer, scorer.forms.get(row.get("form", ""), task)


def _label_job(row: Row) -> LabelJob:
    group = [
        evidence(f, [window([0, 1], [9.0 - i, 0.0], context=i, rank=i) for i in range(windows)])
        for f, windows in enumerate(row["windows"])
    ]
    shown = Shown(max(row["windows"]), 0)
    settings = LabelSettings("m", 0.0, len(group), shown, row["meanings"])
    scattered = row["scattered"]
    return LabelJob(group, prompt_of(LABEL), _VOCABULARY, settings, {}, scattered=scattered)


def items_of(row: Row) -> list[Item]:
    """Items as many and as long as those that were asked about."""
    choices = None
    if "choices" in row:
        place, labels = row["choices"]["place"], row["choices"]["labels"]
        others = [label for i, label in enumerate(labels) if i != place]
        choices = Choices(tuple(Labeled(i, o, 1, None) for i, o in enumerate(others, 1)), place)
        choices = choices.with_own(labels[place])
    items = []
    for context, length in enumerate(row["lengths"]):
        shown = window([0, 1], [1.0, 0.0], context=context, text=f"text {context}")
        item = Item(shown, "fires", np.ones(length, dtype=np.float32), choices=choices)
        if row["task"] == "intruder":
            item = replace(item, beside=(shown,) * 4)
        items.append(replace(item, marks=_MARKED, part=slice(0, 2)))
    return items


def reader_of(row: Row) -> Callable[[str], Mapping[int, Any]]:
    """What reads the text of such a reply: by place, or of texts by their order."""
    n = len(row["asked"])
    if row["task"] == LABEL:
        return lambda text: read_labels(text, n, row["scattered"])
    if row["task"] == TEXTS:
        return lambda text: dict(enumerate(read_texts(text)))
    _, task = _task(row)
    items = items_of(row)
    if isinstance(task, Task):
        return lambda text: task.read(text, items, row["scattered"])
    sent = row.get("sent", "")
    return lambda text: task.read([Position(text)], sent, items, row["scattered"])
