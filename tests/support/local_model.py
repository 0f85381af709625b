"""A chat model small enough for tests: the demo's subject with a chat template and a longer reach.

It knows Python and no chat, and likes to end phrases and numbers: what it says is nonsense in the
form that is asked for.
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autointerp.demo import SUBJECT

TEMPLATE = (
    "{% for m in messages %}# {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}# assistant: {% endif %}"
)
MAX_CONTEXT = 8192
_ENDS = ['"', "}"]
_LIKED = 6.0  # added to their logits, in the mean


@torch.no_grad()
def write_local_model(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(SUBJECT)
    model = AutoModelForCausalLM.from_pretrained(SUBJECT, dtype=torch.float32)
    ids = tokenizer('{"label": "the name of a class', return_tensors="pt")["input_ids"]
    mean = model.model(ids).last_hidden_state[0].mean(0)
    head = model.lm_head.weight.clone()
    head[tokenizer.convert_tokens_to_ids(_ENDS)] += _LIKED * mean / mean.dot(mean)
    model.config.update({"tie_word_embeddings": False, "max_position_embeddings": MAX_CONTEXT})
    model.lm_head.weight = torch.nn.Parameter(head)
    model.save_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder
