"""Requests to a local model, and its replies, in the format of endpoints."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autointerp.llm.wire.call_errors import UnreadableReply, read_object
from autointerp.llm.wire.request import as_json

_BAD_REQUEST = "400"
_LENGTH, _STOP = "length", "stop"
# What is not done here, though --extra-body may ask for it.
_UNSUPPORTED = ("tools", "functions", "stop", "logit_bias")


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A token with its log probability, and the likeliest ones in its place."""

    token_id: int
    logprob: float
    likeliest: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A chat request in the terms of an engine.

    `schema` is what the reply must follow; an empty one allows any JSON object, None anything.
    `logprobs` and `prompt_logprobs` are how many alternatives are wanted for each token, None where
    none are.
    """

    model: str
    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    temperature: float
    seed: int
    schema: Mapping[str, Any] | None
    logprobs: int | None
    prompt_logprobs: int | None
    template_arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Completed:
    """A reply. `prompt` has a choice for each of the prompt's tokens but the first."""

    text: str
    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    cut: bool
    tokens: Sequence[TokenChoice] = field(default_factory=tuple)
    prompt: Sequence[TokenChoice] = field(default_factory=tuple)


def bad_request(message: str) -> UnreadableReply:
    """What an endpoint would answer with status 400."""
    return UnreadableReply(message, _BAD_REQUEST)


def too_long(prompt: int, reply: int, most: int) -> UnreadableReply:
    return bad_request(
        f"this model's maximum context length is {most:,} tokens, but the prompt has "
        f"{prompt:,} and the reply may take {reply:,}"
    )


class Seeds:
    """A seed for each sending of a body: what is asked once more is drawn anew."""

    def __init__(self) -> None:
        self._sent: Counter[bytes] = Counter()

    def of(self, body: bytes) -> int:
        key = hashlib.sha256(body).digest()
        self._sent[key] += 1
        return int.from_bytes(key[:4]) ^ self._sent[key]


def read_body(body: bytes, seeds: Seeds) -> EngineRequest:
    """What a request's body asks for. Raises UnreadableReply as an endpoint would reject it."""
    given = read_object(body)
    for name in _UNSUPPORTED:
        if given.get(name):
            raise bad_request(f"parameter {name!r} is not supported by a local model")
    seed = given.get("seed")
    limit = given.get("max_completion_tokens") or given.get("max_tokens")
    if not isinstance(limit, int) or limit < 1:
        raise bad_request("max_tokens must be a positive integer")
    return EngineRequest(
        model=str(given.get("model", "")),
        messages=given["messages"],
        max_tokens=limit,
        temperature=float(given.get("temperature") or 0.0),
        seed=seed if isinstance(seed, int) else seeds.of(body),
        schema=_schema(given.get("response_format")),
        logprobs=_alternatives(given.get("top_logprobs")) if given.get("logprobs") else None,
        prompt_logprobs=_alternatives(given.get("prompt_logprobs")),
        template_arguments=given.get("chat_template_kwargs") or {},
    )


def _alternatives(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _schema(wanted: Any) -> Mapping[str, Any] | None:
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None
    if wanted["type"] == "json_object":
        return {"type": "object"}
    schema = wanted.get("json_schema")
    if wanted["type"] != "json_schema" or not isinstance(schema, dict):
        raise bad_request(f"response_format {wanted['type']!r} is not supported")
    inner: Mapping[str, Any] = schema["schema"]
    return inner


def envelope(asked: EngineRequest, completed: Completed, names: Mapping[int, str]) -> bytes:
    """The reply as OpenAI's servers and vLLM put it. `names` are the texts of tokens, by id."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": completed.text},
        "finish_reason": _LENGTH if completed.cut else _STOP,
    }
    if asked.logprobs is not None:
        choice["logprobs"] = {"content": [_token(one, names) for one in completed.tokens]}
    prompt, reply = len(completed.prompt_ids), len(completed.token_ids)
    whole: dict[str, Any] = {
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": reply,
            "total_tokens": prompt + reply,
        },
    }
    if asked.prompt_logprobs is not None:
        whole["prompt_token_ids"] = list(completed.prompt_ids)
        whole["prompt_logprobs"] = [None, *(_of_prompt(one, names) for one in completed.prompt)]
    return as_json(whole)


def _token(one: TokenChoice, names: Mapping[int, str]) -> dict[str, Any]:
    others = [{"token": names[id], "logprob": logprob} for id, logprob in one.likeliest]
    return {"token": names[one.token_id], "logprob": one.logprob, "top_logprobs": others}


def _of_prompt(one: TokenChoice, names: Mapping[int, str]) -> dict[str, Any]:
    """The prompt's own token first, as vLLM has it."""
    every = {one.token_id: one.logprob} | dict(one.likeliest)
    return {
        str(id): {"logprob": logprob, "decoded_token": names[id]} for id, logprob in every.items()
    }
