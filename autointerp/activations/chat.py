"""Conversations as token ids, through the tokenizer's own template."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from autointerp.activations.rows import BadRow, ConversationTurn
from autointerp.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Literal["all", "assistant", "user", "system"]
# Templates of reasoning models take a turn apart here, and leave the thinking of old turns out.
_THOUGHT_ENDS = "</think>"


def conversation_tokens(
    tokenizer: "PreTrainedTokenizerBase", turns: list[ConversationTurn], counted: Turns
) -> tuple[list[int], np.ndarray]:
    """Token ids of the whole conversation, and which count: bool, the same length.

    With `all` every token counts; with a role, those that hold what that role said: the template's
    own marks around it, and what it thought before, are not. Raises InputError where there is no
    template, BadRow where it declines the conversation or changes what was said.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "the text holds conversations, but the subject model's tokenizer has no chat template"
        )
    text = _rendered(tokenizer, turns)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    if counted == "all":
        return ids, np.ones(len(ids), dtype=bool)
    said = np.zeros(len(text) + 1, dtype=bool)
    for turn, (begin, end) in zip(turns, _places(tokenizer, turns, text), strict=True):
        said[begin:end] = turn["role"] == counted
    offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    before = np.concatenate([[0], said.cumsum()])
    return ids, before[offsets[:, 1]] > before[offsets[:, 0]]


def _rendered(tokenizer: "PreTrainedTokenizerBase", turns: list[ConversationTurn]) -> str:
    try:
        text: str = tokenizer.apply_chat_template(list(turns), tokenize=False)
    except Exception as error:  # a template is a program of its author's
        raise BadRow(f"the subject model's chat template rejects it: {_line(error)}") from None
    return text


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _places(
    tokenizer: "PreTrainedTokenizerBase", turns: list[ConversationTurn], text: str
) -> list[tuple[int, int]]:
    """Where in the rendered text each turn's words are.

    A word may also be one of the template's own ("user"), so words are not searched for: a second
    rendering has a name in place of each turn's words, and what is around the names is the
    template's.
    """
    halves = [_thought_and_said(turn["content"]) for turn in turns]
    names = [f"autointerp{number}turn" for number in range(len(turns))]
    named: list[ConversationTurn] = [
        {"role": turn["role"], "content": thought + name}
        for turn, (thought, _), name in zip(turns, halves, names, strict=True)
    ]
    rest = _rendered(tokenizer, named)
    marks = []
    for name in names:
        before, _, rest = rest.partition(name)
        marks.append(before)
    position = len(marks[0]) if text.startswith(marks[0]) else len(text)
    places = []
    for turn, (_, said), after in zip(turns, halves, [*marks[1:], rest], strict=True):
        # Templates may trim what is said.
        trimmed = (said, said.strip(), said.lstrip(), said.rstrip())
        words = next((w for w in trimmed if text.startswith(w + after, position)), None)
        if words is None:
            raise BadRow(
                f"the subject model's chat template changes what the {turn['role']} "
                f"says ({said[:40]!r}…), so it is unclear whose words are whose: use "
                "--turns all"
            )
        places.append((position, position + len(words)))
        position += len(words) + len(after)
    return places


def _thought_and_said(content: str) -> tuple[str, str]:
    """A turn's thinking, with its end mark and the white space after it, and what it says."""
    _, mark, said = content.rpartition(_THOUGHT_ENDS)
    words = said.lstrip() if mark else said
    return content[: len(content) - len(words)], words
