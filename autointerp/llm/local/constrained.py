"""Decoding that a JSON Schema constrains, by llguidance.

It takes schemas as vLLM, SGLang and llama.cpp do (they build on it as well): fields come in the
order in which they are declared, numbers are of the enumeration, lists have their least and most
entries. A mask costs microseconds whatever the schema, since nothing is compiled beforehand; it
comes as one wheel without dependencies.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from autointerp.llm.local.completions import bad_request

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers import PreTrainedTokenizerBase

PACKAGE = "llguidance"
# Free white space lets weak models write nothing else.
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_BITS = 32


def grammar_of(schema: Mapping[str, Any]) -> str:
    """In llguidance's own words. Raises UnreadableReply for a schema it cannot follow."""
    from llguidance import LLMatcher

    grammar: str = LLMatcher.grammar_from_json_schema(dict(schema), overrides=LAYOUT)
    if error := LLMatcher.validate_grammar(grammar):
        raise bad_request(f"the JSON schema is not supported: {error.strip().splitlines()[0]}")
    return grammar


class Grammars:
    """Matchers of schemas for one tokenizer; `width` is how many logits the model gives."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", width: int, ends: Sequence[int]
    ) -> None:
        from llguidance import LLTokenizer

        # Padding and truncation, as they may be set, are not part of the vocabulary.
        described = json.loads(tokenizer.backend_tokenizer.to_str())
        described |= {"padding": None, "truncation": None}
        # A tokenizer may know tokens that the model has no logit for, and the other way round.
        vocabulary = max(width, len(tokenizer))
        self._tokenizer = LLTokenizer(
            json.dumps(described), n_vocab=vocabulary, eos_token=list(ends)
        )
        self._width, self._words = width, -(-vocabulary // _BITS)
        self._made = functools.lru_cache(maxsize=64)(self._make)

    def matcher(self, schema: Mapping[str, Any]) -> "LLMatcher":
        """At the beginning of a reply. Raises UnreadableReply for a schema it cannot follow."""
        return self._made(grammar_of(schema)).deep_copy()

    def _make(self, grammar: str) -> "LLMatcher":
        from llguidance import LLMatcher

        return LLMatcher(self._tokenizer, grammar, log_level=0)

    def forbid(self, matchers: Sequence["LLMatcher | None"], logits: Tensor) -> None:
        """Set the logits [rows, width] of tokens that may not come next to minus infinity."""
        from llguidance.numpy import fill_next_token_bitmask

        rows = [row for row, matcher in enumerate(matchers) if matcher is not None]
        if not rows:
            return
        words = np.full((len(rows), self._words), -1, dtype=np.int32)
        for place, row in enumerate(rows):
            fill_next_token_bitmask(matchers[row], words, place)
        allowed = torch.from_numpy(words).to(logits.device)
        bits = torch.arange(_BITS, device=logits.device, dtype=torch.int32)
        forbidden = ((allowed[:, :, None] >> bits) & 1).flatten(1)[:, : self._width] == 0
        logits[rows] = logits[rows].masked_fill(forbidden, float("-inf"))
