"""The subject model: loaded as transformers gives it, and its tokenizer.

transformers is imported where it is used: it takes seconds and 200 MB, which processes that read a
cache do without.
"""

import hashlib
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import Tensor

from autointerp.errors import InputError, MissingPackageError
from autointerp.held import held, is_held

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# transformers keeps in globals how it loads a model, so that two threads get in each other's way.
LOADING = threading.Lock()
_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm")
_TROUBLES = (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError)


@dataclass(frozen=True)
class SubjectTokenizer:
    """A subject model's tokenizer, where the model is not needed."""

    name: str
    tokenizer: "PreTrainedTokenizerBase"


@dataclass(frozen=True)
class Subject:
    name: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def embeddings(self) -> int:
        """How many token ids it has an embedding for."""
        return len(self.model.get_input_embeddings().weight)

    @property
    def revision(self) -> str | None:
        """The commit of the hub it came from, None for a folder."""
        commit: str | None = getattr(self.model.config, "_commit_hash", None)
        return commit

    def unembedding(self) -> tuple[Tensor, Tensor] | None:
        """The weight that turns the last residual into logits [tokens, d], and the gain [d] of the
        norm before it; None for a model that has no such."""
        head = self.model.get_output_embeddings()
        base = self.model.base_model
        norm = next((m for n, m in base.named_children() if n in _FINAL_NORMS), None)
        if head is None or norm is None:
            return None
        if isinstance(norm, torch.nn.LayerNorm):
            return head.weight, norm.weight
        # Some store the gain, some the gain less one: what the norm makes of ones tells.
        ones = torch.ones_like(norm.weight)
        with torch.no_grad():
            return head.weight, norm(ones)

    @property
    def longest_context(self) -> int | None:
        longest: int | None = getattr(
            self.model.config.get_text_config(), "max_position_embeddings", None
        )
        return longest


def load_tokenizer(subject: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a local folder, a .gguf file or a hub id, or in memory.

    Raises InputError.
    """
    if is_held(subject):
        found = held(subject, object)
        assert isinstance(found, Subject | SubjectTokenizer)
        return found.tokenizer
    import transformers

    transformers.utils.logging.set_verbosity_error()
    name, file = _located(subject)
    try:
        return transformers.AutoTokenizer.from_pretrained(name, **file)
    except _TROUBLES as error:
        raise InputError(f"the tokenizer of {subject} cannot be loaded: {_first(error)}") from None


def load_subject(subject: str, device: torch.device) -> Subject:
    """The model of a local folder, a .gguf file or a hub id, in the precision of its files, on
    `device`; of a .gguf file the weights are dequantized.

    `cuda` without a number means all of the machine's GPUs, where accelerate is installed to
    spread the model. One that is in memory stays as it is. Raises AutointerpError.
    """
    if is_held(subject):
        return held(subject, Subject)
    import transformers

    tokenizer = load_tokenizer(subject)
    transformers.utils.logging.disable_progress_bar()
    several = device.type == "cuda" and device.index is None and torch.cuda.device_count() > 1
    spread = several and importlib.util.find_spec("accelerate") is not None
    placement = {"device_map": "auto"} if spread else {}
    try:
        auto = transformers.AutoModelForCausalLM
        name, file = _located(subject)
        # What is dequantized has no precision of its own, and cannot be changed afterwards.
        dtype = torch.float32 if file and device.type == "cpu" else "auto"
        with LOADING:
            model = auto.from_pretrained(name, dtype=dtype, **file, **placement)
    except _TROUBLES as error:
        raise InputError(f"subject model {subject} cannot be loaded: {_first(error)}") from None
    if device.type == "cpu" and not file:
        # bfloat16 is slow on most processors, and models that run there are small.
        model = model.float()
    return Subject(subject, (model if spread else model.to(device)).eval(), tokenizer)


def _located(subject: str) -> tuple[str, dict[str, str]]:
    """What transformers calls a model: a folder or a hub id, and the .gguf file in it."""
    path = Path(subject)
    if path.suffix != ".gguf":
        return subject, {}
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackageError(
            f"subject model {subject} is a GGUF file: reading it needs pip install gguf"
        )
    if not path.is_file():
        raise InputError(f"subject model {subject}: no such file")
    return str(path.parent), {"gguf_file": path.name}


def tokenizer_sha256(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Of what decides how text becomes tokens; None for a tokenizer written in Python."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return None if backend is None else hashlib.sha256(backend.to_str().encode()).hexdigest()


def _first(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
