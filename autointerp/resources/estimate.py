"""What a stage would send and cost: counted, not sent."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autointerp.config.settings import RunConfig
from autointerp.errors import InputError
from autointerp.llm.limits.prices import BATCH_SHARE
from autointerp.llm.wire.request import ChatRequest
from autointerp.resources import model_facts

PLACEHOLDER_LABEL = "a label of some twelve words in place of the one to come"
_CHARACTERS_A_TOKEN = 3.5  # of English text and code, where no tokenizer is at hand
_TOKENS_A_MESSAGE = 4  # what a chat template puts around one
_TOKENIZED = 200  # requests counted exactly; the others by their share of characters


def labeling_tokenizer(config: RunConfig) -> Any | None:
    """The labeling model's tokenizer where it is on this machine, else None.

    Raises AutointerpError where one is named and cannot be read.
    """
    from transformers import AutoTokenizer

    asked = config.local_model_name() if config.is_local() else model_facts.model_name(config)
    name = config.tokenizer or asked
    if config.tokenizer is None and not Path(name).is_dir() and "/" not in name:
        return None
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=config.tokenizer is None)
    except (OSError, ValueError) as error:
        if config.tokenizer is None:
            return None
        first_line = str(error).strip().splitlines()[0]
        raise InputError(f"tokenizer {name!r} cannot be read: {first_line}") from None


@dataclass
class CostEstimate:
    """Sums over requests."""

    tokenizer: Any | None = None
    requests: int = 0
    characters: int = 0
    completion_tokens: int = 0
    # What all prompts of a kind begin with, and the characters in it: a prompt cache may serve it.
    _prefixes: dict[str, str] = field(default_factory=dict, repr=False)
    _kinds: Counter[str] = field(default_factory=Counter, repr=False)
    _counted_characters: int = field(default=0, repr=False)
    _counted_tokens: int = field(default=0, repr=False)

    def add(self, request: ChatRequest, completion_tokens: int) -> None:
        texts = [message["content"] for message in request.messages]
        text = "".join(texts)
        self.characters += len(text)
        self.completion_tokens += completion_tokens
        kind = request.schema.name if request.schema else ""
        self._kinds[kind] += 1
        self._prefixes[kind] = _common_prefix(self._prefixes.get(kind, text), text)
        if self.tokenizer is not None and self.requests < _TOKENIZED:
            self._counted_characters += len(text)
            self._counted_tokens += _TOKENS_A_MESSAGE * len(texts)
            self._counted_tokens += sum(
                len(self.tokenizer.encode(t, add_special_tokens=False)) for t in texts
            )
        self.requests += 1

    def add_all(self, requests: Iterable[tuple[ChatRequest, int]]) -> None:
        """Requests, each with the tokens of its reply."""
        for request, completion_tokens in requests:
            self.add(request, completion_tokens)

    @property
    def prompt_tokens(self) -> int:
        if not self._counted_tokens:
            return round(self.characters / _CHARACTERS_A_TOKEN)
        return round(self.characters * self._counted_tokens / self._counted_characters)

    def prefix_share(self) -> float:
        """The share of all prompts' characters that is in a beginning common to their kind."""
        common = sum(len(prefix) * self._kinds[kind] for kind, prefix in self._prefixes.items())
        return common / max(1, self.characters)

    def line(self, stage: str, config: RunConfig) -> str:
        known = model_facts.price(config)
        if known is None:
            cost = f"cost unknown (no price for {config.model}: give --input-price, --output-price)"
        else:
            dollars = (
                self.prompt_tokens * known.input + self.completion_tokens * known.output
            ) / 1e6
            cost = f"about ${dollars * (BATCH_SHARE if config.batch else 1.0):,.4f}"
        counted = "by its tokenizer" if self._counted_tokens else "by length"
        return (
            f"{stage}: {self.requests:,} requests, about {self.prompt_tokens:,} prompt ({counted}; "
            f"{self.prefix_share():.0%} of them a common beginning) and "
            f"{self.completion_tokens:,} completion tokens, {cost}"
        )


def _common_prefix(a: str, b: str) -> str:
    pairs = zip(a, b, strict=False)
    return a[: next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))]
