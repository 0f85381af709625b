"""Run the subject model over text and store what one hook sees."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from autointerp.activations.cache import CacheWriter, Manifest
from autointerp.activations.documents import documents
from autointerp.activations.hooks import activations_at, resolve_hook
from autointerp.errors import UserError
from autointerp.progress import track
from autointerp.vocabulary import vocabulary_of


@dataclass(frozen=True)
class CaptureSettings:
    subject: str
    hook: str
    text: str
    tokens: int
    context_length: int
    batch_contexts: int
    d_in: int  # the width the coder expects


class _Packer:
    """Cuts documents, each followed by the end-of-text token, into contexts of equal length."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        self._tokenizer = tokenizer
        self._length = length
        self.documents = 0

    def contexts(self, source: str) -> Iterator[list[int]]:
        end = self._tokenizer.eos_token_id
        pending: list[int] = []
        for text in documents(source):
            self.documents += 1
            pending.extend(self._tokenizer(text, add_special_tokens=False)["input_ids"])
            if end is not None:
                pending.append(end)
            whole = len(pending) // self._length
            for i in range(whole):
                yield pending[i * self._length : (i + 1) * self._length]
            del pending[: whole * self._length]


def load_subject(subject: str) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """The model and tokenizer of a local folder or a hub id; UserError where there is none."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(subject)
        model = AutoModelForCausalLM.from_pretrained(subject, dtype="auto")
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"subject model {subject} cannot be loaded: {first_line}") from None
    return model.eval(), tokenizer


def capture(settings: CaptureSettings, out: Path, device: torch.device, made_from: str) -> Manifest:
    """Write the native cache at `out`. A capture that is interrupted leaves nothing there."""
    model, tokenizer = load_subject(settings.subject)
    if device.type == "cpu":
        # bfloat16 weights are slow on most processors, and the demo's are small.
        model = model.float()
    model = model.to(device)
    hook = resolve_hook(model, settings.hook)
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and settings.context_length > longest:
        raise UserError(
            f"context_length {settings.context_length}: {settings.subject} takes contexts of at "
            f"most {longest} tokens"
        )
    wanted = max(1, settings.tokens // settings.context_length)
    packer = _Packer(tokenizer, settings.context_length)
    vocabulary = vocabulary_of(tokenizer)
    writer: CacheWriter | None = None

    def flush(rows: list[list[int]]) -> None:
        nonlocal writer
        token_ids = torch.tensor(rows, dtype=torch.int32, device=device)
        valid = torch.ones_like(token_ids, dtype=torch.bool)
        activations = activations_at(model, hook, token_ids, valid)
        if activations.shape[-1] != settings.d_in:
            raise UserError(
                f"hook {settings.hook} of {settings.subject} gives activations of width "
                f"{activations.shape[-1]}, the coder takes {settings.d_in}: another hook or model?"
            )
        if writer is None:
            writer = CacheWriter(
                out, activations.shape[-1], settings.context_length, torch.bfloat16
            )
        writer.add(token_ids, valid, activations)
        progress.advance(token_ids.numel())

    rows: list[list[int]] = []
    with track("capture", wanted * settings.context_length, "tokens") as progress:
        for taken, context in enumerate(packer.contexts(settings.text)):
            if taken == wanted:
                break
            rows.append(context)
            if len(rows) == settings.batch_contexts:
                flush(rows)
                rows = []
        if rows:
            flush(rows)
    if writer is None:
        raise UserError(
            f"text {settings.text} holds less than one context of "
            f"{settings.context_length} tokens: nothing to capture"
        )
    vocabulary.save(writer.partial / "vocabulary.parquet")
    return writer.finish(
        made_from=made_from,
        subject=settings.subject,
        hook=settings.hook,
        text=settings.text,
        documents=packer.documents,
        packing="concatenated",
        special_token_ids=vocabulary.special_ids,
    )
