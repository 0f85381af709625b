"""Scripted simulators: servers' log probabilities of known distributions over digits.

`Chances` gives, for a label and a token's text, the probabilities of the digits 0 to 9. Their
tokenizers split text as those of common models do.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Regex, pre_tokenizers

from tests.support.fake_server import Reply

Chances = Callable[[str, str], Sequence[float]]

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {
    "qwen": rf"{_WORDS}|\p{{N}}|{_REST}",  # 10 is two tokens, `?` and a line break are one
    "llama": rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}",  # 10 is one token
    "gpt2": r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "characters": r"[\s\S]",
    "tab and mark in one": r"\t\?|[\s\S]",
    "lines": r"[^\n]*\n?",
}


def tokens(text: str, split: str) -> list[str]:
    cut = pre_tokenizers.Split(Regex(SPLITS[split]), "isolated")
    return [piece for piece, _ in cut.pre_tokenize_str(text)]


def _logprob(probability: float) -> float:
    return math.log(probability) if probability > 0 else -9999.0


def _digits(chances: Sequence[float], mass: float) -> dict[str, float]:
    return {str(digit): _logprob(mass * p) for digit, p in enumerate(chances) if p > 0}


def prompt_text(messages: Sequence[dict[str, str]]) -> str:
    turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def vllm_prompt(
    request: dict[str, Any], chances: Chances, split: str = "qwen", mass: float = 0.01
) -> Reply:
    """vLLM's `prompt_logprobs`: digits have `mass` together wherever one might stand."""
    text = prompt_text(request["messages"])
    label = re.findall(r"^Description: (.*?)(?:<\|im_end\|>)?$", text, re.MULTILINE)[-1]
    rows: list[dict[str, Any] | None] = []
    ids, before = [], ""
    numbers: dict[str, int] = {}
    for piece in tokens(text, split):
        likely = {piece: -0.1}
        line = before.rpartition("\n")[2]
        if line.endswith("\t"):
            likely |= _digits(chances(label, line[:-1]), mass) | {"\t": -7.0}
        ids.append(numbers.setdefault(piece, len(numbers)))
        rows.append(
            {
                str(numbers.setdefault(t, len(numbers))): {
                    "logprob": logprob, "rank": 1, "decoded_token": t,
                }
                for t, logprob in likely.items()
            }
        )  # fmt: skip
        before += piece
    whole: dict[str, Any] = {"prompt_logprobs": [None, *rows[1:]]}
    if request.get("return_token_ids"):
        whole["prompt_token_ids"] = ids
    return Reply("Excerpt", {"finish_reason": "length"}, whole)


_EXCERPT = re.compile(r"^Excerpt (\d+)$")
_TOKEN = re.compile(r"^(\d+)\t(.*)$")


def openai_reply(request: dict[str, Any], chances: Chances, split: str = "qwen") -> Reply:
    """OpenAI's `logprobs` of a reply in which the likeliest digit is written on every line."""
    user = request["messages"][1]["content"]
    label = re.search(r"^Description: (.*)$", user, re.MULTILINE)[1]
    content: list[dict[str, Any]] = []
    written = ""
    for line in user.split("\n")[1:]:
        if _EXCERPT.match(line):
            pieces = [(piece, {piece: -0.01}) for piece in tokens(f"{line}\n", split)]
        else:
            number, token = _TOKEN.match(line).groups()
            likely = _digits(chances(label, token), 1.0)
            digit = max(likely, key=likely.get)
            pieces = [(piece, {piece: -0.01}) for piece in tokens(f"{number}\t", split)]
            pieces += [(digit, likely | {" ": -12.0}), ("\n", {"\n": -0.01})]
        for piece, among in pieces:
            written += piece
            content.append(
                {
                    "token": piece,
                    "logprob": among[piece],
                    "top_logprobs": [{"token": t, "logprob": p} for t, p in among.items()],
                }
            )
    return Reply(written, {"logprobs": {"content": content}})
