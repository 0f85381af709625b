"""A language model as judge: one label, many windows a request, what is missing asked again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from autointerp.evidence.text import one_line, token_list
from autointerp.evidence.window import Window
from autointerp.labeling.prompts import Prompt
from autointerp.llm.pool import Step
from autointerp.llm.reply import CallFailure, ChatReply
from autointerp.llm.request import ChatRequest, ReplySchema
from autointerp.llm.structured import items
from autointerp.scoring import detection, simulation
from autointerp.scoring.scorer import Judged, Judgment
from autointerp.vocabulary import Vocabulary

_TRIES = 2  # times a window is asked about before it counts as missing
_MORE_ROOM = 8  # times the tokens, once, for a reply that was cut off before anything was in it


def _schema(key: str, field_name: str, value: dict[str, Any]) -> ReplySchema:
    """A list under `key` of objects with a window's number, `w`, and what is said of it."""
    item = {
        "type": "object",
        "properties": {"w": {"type": "integer"}, field_name: value},
        "required": ["w", field_name],
        "additionalProperties": False,
    }
    return ReplySchema(
        key,
        {
            "type": "object",
            "properties": {key: {"type": "array", "items": item}},
            "required": [key],
            "additionalProperties": False,
        },
    )


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    model: str
    temperature: float


@dataclass(frozen=True)
class Task:
    """How one scorer asks and reads: the rest of a judge's work is the same for all."""

    name: str
    render: Callable[[int, Window, Vocabulary], dict[str, Any]]
    schema: ReplySchema
    read: Callable[[Mapping[str, Any], Window], np.ndarray | None]
    reply_tokens: Callable[[Window], int]
    judgment: Callable[[Window, np.ndarray | None, float], Judgment]


def _render_text(number: int, window: Window, _vocabulary: Vocabulary) -> dict[str, Any]:
    return {"number": number, "text": one_line(window.text)}


def _read_match(item: Mapping[str, Any], _window: Window) -> np.ndarray | None:
    match = item.get("match")
    if isinstance(match, bool) or match in (0, 1):
        return np.array([bool(match)], dtype=np.float32)
    return None


def _render_tokens(number: int, window: Window, vocabulary: Vocabulary) -> dict[str, Any]:
    ids = window.token_ids.tolist()
    return {"number": number, "length": len(ids), "tokens": token_list(ids, vocabulary)}


def _read_activations(item: Mapping[str, Any], window: Window) -> np.ndarray | None:
    values = item.get("activations")
    if not isinstance(values, list) or len(values) != len(window.token_ids):
        return None
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != len(values) or not all(0 <= v <= simulation.HIGHEST for v in numbers):
        return None
    return np.array(numbers, dtype=np.float32)


def _detection_judgment(window: Window, value: np.ndarray | None, _maximum: float) -> Judgment:
    return detection.judgment(window, None if value is None else bool(value[0]))


TASKS = {
    detection.NAME: Task(
        detection.NAME,
        _render_text,
        _schema("answers", "match", {"type": "boolean"}),
        _read_match,
        lambda _: 16,
        _detection_judgment,
    ),
    simulation.NAME: Task(
        simulation.NAME,
        _render_tokens,
        _schema("windows", "activations", {"type": "array", "items": {"type": "integer"}}),
        _read_activations,
        lambda window: 20 + 3 * len(window.token_ids),
        simulation.judgment,
    ),
}


def _number(value: object) -> int:
    """A window's number, which some models write as a string; 0 for anything else."""
    if isinstance(value, str) and value.isdecimal():
        return int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


@dataclass(frozen=True)
class JudgeJob:
    """Judge windows of one feature by one label, its own or, for the null, another's."""

    task: Task
    feature: int
    label_of: int
    label: str
    max_activation: float
    windows: Sequence[Window]
    prompt: Prompt
    vocabulary: Vocabulary
    settings: JudgeSettings
    todo: tuple[int, ...]  # indices of windows still to ask about
    answers: Mapping[int, np.ndarray] = field(default_factory=dict)
    asked: Mapping[int, int] = field(default_factory=dict)  # times asked in vain, by index
    chunk: int = 1 << 30  # windows a request
    attempt: int = 0
    room: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def _now(self) -> tuple[int, ...]:
        return self.todo[: self.chunk]

    def messages(self) -> list[dict[str, str]]:
        shown = [
            self.task.render(number, self.windows[i], self.vocabulary)
            for number, i in enumerate(self._now(), 1)
        ]
        return self.prompt.messages(label=self.label, windows=shown)

    def request(self) -> ChatRequest:
        now = self._now()
        tokens = 50 + sum(self.task.reply_tokens(self.windows[i]) for i in now)
        return ChatRequest(
            model=self.settings.model,
            messages=tuple(self.messages()),
            max_tokens=self.room * tokens,
            temperature=self.settings.temperature,
            schema=self.task.schema,
            attempt=self.attempt,
        )

    def reduce(self, outcome: ChatReply | CallFailure) -> Step[Judged]:
        """Readable answers are kept; the rest are asked for once more, then missing."""
        now = self._now()
        job = replace(
            self,
            prompt_tokens=self.prompt_tokens + outcome.usage.prompt_tokens,
            completion_tokens=self.completion_tokens + outcome.usage.completion_tokens,
            cost_usd=self.cost_usd + outcome.cost_usd,
        )
        if isinstance(outcome, CallFailure):
            if outcome.kind not in ("too_long", "content_filter", "bad_request"):
                return Step(results=[replace(job._judged(outcome.message), unanswered=True)])
            return job._less(now, outcome.message)
        if outcome.refused:
            return job._less(now, "the model refused to answer")
        new: dict[int, np.ndarray] = {}
        for item in items(outcome.text, self.task.schema.name):
            number = _number(item.get("w"))
            if 1 <= number <= len(now) and now[number - 1] not in new:
                value = self.task.read(item, self.windows[now[number - 1]])
                if value is not None:
                    new[now[number - 1]] = value
        if outcome.finish_reason == "length" and not new and self.room == 1:
            # Thoughts, most likely, which some models write before they answer.
            return Step(follow_ups=[replace(job, room=_MORE_ROOM)])
        asked = dict(self.asked) | {i: self.asked.get(i, 0) + 1 for i in now if i not in new}
        todo = tuple(i for i in self.todo if i not in new and asked.get(i, 0) < _TRIES)
        job = replace(
            job,
            answers={**self.answers, **new},
            asked=asked,
            todo=todo,
            attempt=self.attempt + 1,
        )
        if todo:
            return Step(follow_ups=[job])
        return Step(results=[job._judged(None)])

    def _less(self, now: tuple[int, ...], why: str) -> Step[Judged]:
        """Ask about fewer windows at once; one that cannot be asked about by itself is missing."""
        if len(now) > 1:
            return Step(follow_ups=[replace(self, chunk=-(-len(now) // 2))])
        todo = tuple(i for i in self.todo if i not in now)
        if todo:
            return Step(follow_ups=[replace(self, todo=todo, chunk=1 << 30)])
        return Step(results=[self._judged(why)])

    def _judged(self, error: str | None) -> Judged:
        judgments = [
            self.task.judgment(window, self.answers.get(i), self.max_activation)
            for i, window in enumerate(self.windows)
        ]
        missing = len(self.windows) - len(self.answers)
        if error is None and missing:
            error = f"{missing} of {len(self.windows)} windows without a readable judgment"
        return Judged(
            feature=self.feature,
            scorer=self.task.name,
            label_of=self.label_of,
            judgments=judgments,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=self.cost_usd,
            error=error,
        )
