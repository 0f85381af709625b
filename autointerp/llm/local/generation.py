"""A chat model of transformers on this machine that answers requests in batches."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jinja2
import torch
from torch import Tensor

from autointerp.llm.local.completions import (
    Completed,
    EngineRequest,
    Seeds,
    TokenChoice,
    bad_request,
    envelope,
    read_body,
    too_long,
)
from autointerp.llm.local.constrained import Grammars
from autointerp.tensors.memory import free_bytes

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SHARE_OF_FREE = 0.4  # for the keys and values of a batch, beside what computing them takes
_LOGITS = 1 << 26  # of a prompt, looked at at a time


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A request as tokens. `tokens` is the most that prompt and reply together can have."""

    asked: EngineRequest
    ids: list[int]

    @property
    def tokens(self) -> int:
        return len(self.ids) + self.asked.max_tokens


class ChatModel:
    """The model is used by one thread at a time; `stop` may be called from any.

    Raises nothing that depends on one request but what `prepare` does.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        from transformers import GenerationConfig

        self._model, self._tokenizer = model, tokenizer
        self._device: torch.device = model.get_input_embeddings().weight.device
        own = model.generation_config
        ends = own.eos_token_id if own is not None else None
        every = [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]
        self._ends = frozenset(id for id in every if id is not None)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._ends)
        # The model's own settings sample, and punish repetition, which JSON is full of.
        model.generation_config = GenerationConfig(
            do_sample=False, use_cache=True, pad_token_id=pad, eos_token_id=sorted(self._ends)
        )
        self._pad = pad
        text = model.config.get_text_config()
        self._longest: int | None = getattr(text, "max_position_embeddings", None)
        self._width = model.get_output_embeddings().weight.shape[0]
        self._grammars = Grammars(tokenizer, self._width, sorted(self._ends))
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        itemsize = next(model.parameters()).element_size()
        self._bytes_a_token = 2 * text.num_hidden_layers * heads * head * itemsize
        self._names: dict[int, str] = {}
        self._seeds = Seeds()
        self._stopping = threading.Event()

    def prepare(self, body: bytes) -> PreparedPrompt:
        """Raises UnreadableReply as an endpoint would reject the request."""
        asked = read_body(body, self._seeds)
        ids = self._rendered(asked)
        prepared = PreparedPrompt(asked, ids)
        if self._longest is not None and prepared.tokens > self._longest:
            raise too_long(len(ids), asked.max_tokens, self._longest)
        if asked.schema is not None:
            self._grammars.matcher(asked.schema)
        if asked.prompt_logprobs is not None and asked.schema is not None:
            raise bad_request("prompt_logprobs and a schema are not supported together")
        return prepared

    def _rendered(self, asked: EngineRequest) -> list[int]:
        messages = [dict(message) for message in asked.messages]
        ways = [messages]
        if len(messages) > 1 and messages[0]["role"] == "system":
            # Some templates have no place for a system's words.
            first, second, *rest = messages
            joined = f"{first['content']}\n\n{second['content']}"
            ways.append([second | {"content": joined}, *rest])
        said = ""
        for way in ways:
            try:
                return self._templated(way, asked)
            except jinja2.TemplateError as error:
                said = str(error)
        raise bad_request(f"the chat template rejects the messages: {said}")

    def _templated(self, messages: list[dict[str, str]], asked: EngineRequest) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **asked.template_arguments
        )
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def most_rows(self, longest: int) -> int:
        """How many requests of at most so many tokens there is memory for, at least one."""
        free = free_bytes(self._device)
        if free is None:
            return 1 << 10
        if self._device.type == "cuda":
            # What torch keeps for itself is free to it.
            free += torch.cuda.memory_reserved(self._device)
            free -= torch.cuda.memory_allocated(self._device)
        return max(1, int(_SHARE_OF_FREE * free / (self._bytes_a_token * longest)))

    def stop(self) -> None:
        """End the batch that is being answered at its next token."""
        self._stopping.set()

    def answer(self, batch: Sequence[PreparedPrompt]) -> list[bytes]:
        """Replies as an endpoint sends them. Raises torch's errors, those of memory among them."""
        self._stopping.clear()
        to_write = [one for one in batch if one.asked.prompt_logprobs is None]
        with torch.inference_mode():
            written = iter(self._write(to_write) if to_write else ())
            return [
                self._envelope(
                    one.asked,
                    next(written) if one.asked.prompt_logprobs is None else self._read(one),
                )
                for one in batch
            ]

    def _envelope(self, asked: EngineRequest, completed: Completed) -> bytes:
        for choice in (*completed.tokens, *completed.prompt):
            for token_id in (choice.token_id, *(id for id, _ in choice.likeliest)):
                if token_id not in self._names:
                    self._names[token_id] = self._tokenizer.decode([token_id])
        return envelope(asked, completed, self._names)

    def _write(self, batch: Sequence[PreparedPrompt]) -> list[Completed]:
        """Replies to all of them together, padded on the left."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        width = max(len(one.ids) for one in batch)
        ids = torch.full((len(batch), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, width - len(one.ids) :] = torch.tensor(one.ids)
            mask[row, width - len(one.ids) :] = 1
        rows = [_Row(one.asked, self._matcher(one.asked), self._device) for one in batch]
        choosing = _Choosing(rows, self._grammars, self._ends, self._stopping)
        self._model.generate(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            max_new_tokens=max(one.asked.max_tokens for one in batch),
            logits_processor=LogitsProcessorList([choosing.choose]),
            stopping_criteria=StoppingCriteriaList([choosing.are_done]),
        )
        return [
            Completed(
                text=self._tokenizer.decode(row.ids, skip_special_tokens=True),
                prompt_ids=one.ids,
                token_ids=row.ids,
                cut=row.cut,
                tokens=row.tokens,
            )
            for one, row in zip(batch, rows, strict=True)
        ]

    def _matcher(self, asked: EngineRequest) -> "LLMatcher | None":
        return None if asked.schema is None else self._grammars.matcher(asked.schema)

    def _read(self, one: PreparedPrompt) -> Completed:
        """The prompt's own probabilities; as a reply, the token that is likeliest after it."""
        ids = torch.tensor([one.ids], device=self._device)
        logits = self._model(ids, use_cache=False).logits[0]
        wanted = one.asked.prompt_logprobs or 0
        choices: list[TokenChoice] = []
        step = max(1, _LOGITS // self._width)
        for begin in range(0, len(one.ids) - 1, step):
            part = logits[begin : min(begin + step, len(one.ids) - 1)].float().log_softmax(-1)
            own = one.ids[begin + 1 : begin + 1 + len(part)]
            choices += _choices(part, own, wanted)
        following = int(logits[-1].argmax())
        text = self._tokenizer.decode([following], skip_special_tokens=True)
        return Completed(text, one.ids, [following], True, prompt=choices)


def _choices(logprobs: Tensor, chosen: Sequence[int], wanted: int) -> list[TokenChoice]:
    """logprobs [positions, width], the token that stands in each place → with the likeliest."""
    places = torch.arange(len(chosen), device=logprobs.device)
    own = logprobs[places, torch.tensor(chosen, device=logprobs.device)].tolist()
    top = logprobs.topk(min(wanted, logprobs.shape[1]), dim=-1)
    return [
        TokenChoice(id, logprob, [(i, p) for i, p in zip(ids, values, strict=True) if p > -1e30])
        for id, logprob, ids, values in zip(
            chosen, own, top.indices.tolist(), top.values.tolist(), strict=True
        )
    ]


@dataclass(slots=True)
class _Row:
    """A reply in the making."""

    asked: EngineRequest
    matcher: "LLMatcher | None"
    device: torch.device
    ids: list[int] = field(default_factory=list)
    tokens: list[TokenChoice] = field(default_factory=list)
    done: bool = False
    cut: bool = False
    random: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.asked.temperature > 0:
            self.random = torch.Generator(self.device).manual_seed(self.asked.seed)


class _Choosing:
    """Chooses each row's next token by its own schema, temperature and seed.

    What was chosen is taken down at once; transformers then takes the largest logit.
    """

    def __init__(
        self,
        rows: Sequence[_Row],
        grammars: Grammars,
        ends: frozenset[int],
        stopping: threading.Event,
    ) -> None:
        self._rows, self._grammars = rows, grammars
        self._ends, self._stopping = ends, stopping

    def choose(self, _: Tensor, logits: Tensor) -> Tensor:
        live = [number for number, row in enumerate(self._rows) if not row.done]
        self._grammars.forbid([None if row.done else row.matcher for row in self._rows], logits)
        drawn = logits
        if any(self._rows[number].random is not None for number in live):
            drawn = logits.clone()
            for number in live:
                drawn[number] = _noisy(logits[number], self._rows[number])
        chosen = drawn.argmax(-1).tolist()
        self._note_logprobs(live, logits, chosen)
        for number in live:
            self._take(self._rows[number], chosen[number])
        return drawn

    def _note_logprobs(self, live: list[int], logits: Tensor, chosen: list[int]) -> None:
        """Of what the schema allows, which is what the token was chosen from."""
        wanted = [n for n in live if self._rows[n].asked.logprobs is not None]
        if not wanted:
            return
        most = max(self._rows[n].asked.logprobs or 0 for n in wanted)
        found = _choices(logits[wanted].float().log_softmax(-1), [chosen[n] for n in wanted], most)
        for number, choice in zip(wanted, found, strict=True):
            self._rows[number].tokens.append(choice)

    def _take(self, row: _Row, token: int) -> None:
        row.ids.append(token)
        if token in self._ends:
            row.done = True
        elif row.matcher is not None:
            row.matcher.consume_token(token)
            row.done = row.matcher.is_stopped()
        if not row.done and len(row.ids) >= row.asked.max_tokens:
            row.done = row.cut = True

    def are_done(self, ids: Tensor, _: Any, **__: Any) -> Tensor:
        stopped = self._stopping.is_set()
        return torch.tensor([row.done or stopped for row in self._rows], device=ids.device)


def _noisy(logits: Tensor, row: _Row) -> Tensor:
    """Logits whose largest is a draw at the row's temperature (the Gumbel-max trick)."""
    if row.random is None:
        return logits
    uniform = torch.rand(logits.shape, generator=row.random, device=logits.device)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
    return logits / row.asked.temperature + gumbel
