"""What is labeled, and where its activations come from."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from autointerp.config.section import Section, setting
from autointerp.held import is_held, label_held

DEMO = "demo"
SPARSE = "sparse"
TOKEN_ID_FILES = (".npy", ".safetensors")


class ActivationSettings(Section):
    SECTION: ClassVar[str] = "activations"

    coder: str | None = setting(
        None,
        "The SAE or transcoder: a path, hf:owner/repository/file, saelens:release/id, or demo "
        "(which it is when nothing else is named).",
        min_length=1,
    )
    coder_format: str | None = setting(
        None,
        "The coder's file format (default: found by its files).",
        min_length=1,
    )
    k: int | None = setting(None, "k of a TopK coder, where it has another.", ge=1)
    subject: str | None = setting(
        None,
        "The subject model: a folder, a .gguf file, a Hugging Face id, or demo. Without --text, "
        "the tokenizer of a cache that has none.",
        min_length=1,
    )
    hook: str | None = setting(
        None,
        "Where to capture: residual:N, resid_mid:N, mlp_in:N, mlp_out:N, attn_out:N, hook_z:N, a "
        "TransformerLens name or a module path; several with commas for capture (default: what "
        "the coder's file names).",
        min_length=1,
    )
    text: str | None = setting(
        None,
        "Text to run: a file of text, JSON, CSV, Parquet or Arrow rows, compressed or not, a "
        "folder of them, hf:owner/dataset[/configuration][:split], or demo.",
        min_length=1,
    )
    text_field: str | None = setting(
        None,
        "Where rows have it (default: text, messages or conversations).",
        min_length=1,
    )
    skip_bad_rows: bool = setting(
        False,
        "Go on however many rows hold no text that can be read; without it over 1 % stop the run.",
    )
    tokens: int = setting(400_000, "Tokens to run.", ge=1)
    token_ids: str | None = setting(
        None,
        "The .npy or .safetensors file of token ids of a cache that has none of its own.",
        min_length=1,
    )
    context_length: int = setting(128, "Tokens in a context.", ge=2)
    packing: Literal["concatenated", "documents"] = setting(
        "concatenated", "documents: one a context, cut or padded."
    )
    bos: Literal["auto", "none", "context", "document"] = setting(
        "auto",
        "Beginning-of-text token before every context or document; auto: before contexts where "
        "the tokenizer adds it by itself.",
    )
    turns: Literal["all", "assistant", "user", "system"] = setting(
        "all", "Whose words of conversations count; the others are context."
    )
    batch_contexts: int = setting(64, "Contexts in a batch of capture and collect.", ge=1)
    cache: str | None = setting(
        None,
        "An activation cache to read, or to keep activations in: without it `run` keeps none "
        "(`capture` alone: <run>/cache).",
        min_length=1,
    )
    store: Literal["bfloat16", "float32", "sparse"] = setting(
        "bfloat16",
        "What a cache holds: activations rounded to bfloat16 or float32, or the coder's active "
        "features alone. Without a cache activations are rounded alike.",
    )

    @field_validator("tokens", mode="before")
    @classmethod
    def _is_no_file(cls, value: Any) -> Any:
        if isinstance(value, str) and Path(value).suffix in TOKEN_ID_FILES:
            raise ValueError(
                f"{value!r} is a file, not a number of tokens: write --token-ids {value} for it "
                "(token_ids in a file of settings)"
            )
        return value

    def is_demo(self) -> bool:
        """The demo's coder is meant: by name, or because nothing else is named."""
        return self.coder == DEMO or (
            self.coder is None and self.cache is None and self.subject in (None, DEMO)
        )

    def names_no_source(self) -> bool:
        """Whether nothing says what is to be labeled."""
        sources = (self.coder, self.cache, self.subject, self.text, self.hook, self.token_ids)
        return all(name is None for name in sources)

    def token_ids_file(self) -> Path | None:
        return Path(self.token_ids) if self.token_ids is not None else None

    def name(self) -> str:
        """What the real coder is called; without one, the cache or model."""
        if self.is_demo():
            return DEMO
        for prefix in ("hf:", "saelens:"):
            if self.coder is not None and self.coder.startswith(prefix):
                return self.coder.removeprefix(prefix).strip("/").replace("/", "--")
        named = self.coder or self.cache or self.subject or ""
        if is_held(named):
            return label_held(named)
        path = Path(named)
        return path.name if path.name not in ("", "..") else path.resolve().name
