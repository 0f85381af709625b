"""Conversations as token ids, through the tokenizer's own template."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from autointerp.activations.documents import Turn
from autointerp.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Literal["all", "assistant", "user", "system"]


def conversation_tokens(
    tokenizer: "PreTrainedTokenizerBase", turns: list[Turn], counted: Turns
) -> tuple[list[int], np.ndarray]:
    """Token ids of the whole conversation, and which count: bool, the same length.

    With `all` every token counts; with a role, those that hold what that role said: the template's
    own marks around it are not theirs. Raises UserError where there is no template, where it
    refuses the conversation, or where it changes what was said so that it is not found again.
    """
    if not tokenizer.chat_template:
        raise UserError("the text holds conversations, but the subject's tokenizer has no template")
    try:
        text: str = tokenizer.apply_chat_template(list(turns), tokenize=False)
    except Exception as error:  # a template is a program of its author's
        raise UserError(f"the subject's chat template refuses a conversation: {error}") from None
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    if counted == "all":
        return ids, np.ones(len(ids), dtype=bool)
    said = np.zeros(len(text) + 1, dtype=bool)
    position = 0
    for turn in turns:
        content = turn["content"].strip()
        begin = text.find(content, position)
        if begin < 0:
            raise UserError(
                f"the subject's chat template changes what the {turn['role']} says "
                f"({content[:40]!r}…), so --turns {counted} cannot be told: use --turns all"
            )
        position = begin + len(content)
        if turn["role"] == counted:
            said[begin:position] = True
    offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    before = np.concatenate([[0], said.cumsum()])
    return ids, before[offsets[:, 1]] > before[offsets[:, 0]]
