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
        "(the default when no other source is given).",
        min_length=1,
    )
    coder_format: str | None = setting(
        None,
        "Format of the SAE's files (default: detected).",
        min_length=1,
    )
    k: int | None = setting(None, "Override k of a TopK SAE.", ge=1)
    subject: str | None = setting(
        None,
        "The subject model: a folder, a .gguf file, a Hugging Face id, or demo. Without --text, "
        "its tokenizer is used for a cache that has none.",
        min_length=1,
    )
    hook: str | None = setting(
        None,
        "The hook point: residual:N, resid_mid:N, mlp_in:N, mlp_out:N, attn_out:N, hook_z:N, a "
        "TransformerLens name or a module path; capture takes several, comma-separated (default: "
        "the one in the SAE's files).",
        min_length=1,
    )
    text: str | None = setting(
        None,
        "Text for the subject model: a file of text, JSON, CSV, Parquet or Arrow rows, "
        "compressed or not, a folder of them, hf:owner/dataset[/configuration][:split], or demo.",
        min_length=1,
    )
    text_field: str | None = setting(
        None,
        "Column that holds the text (default: text, messages or conversations).",
        min_length=1,
    )
    skip_bad_rows: bool = setting(
        False,
        "Skip any number of rows without readable text; by default, more than 1 % stop the run.",
    )
    tokens: int = setting(400_000, "Tokens of text to use.", ge=1)
    token_ids: str | None = setting(
        None,
        "A .npy or .safetensors file with the token ids of a cache that has none.",
        min_length=1,
    )
    context_length: int = setting(128, "Tokens in a context.", ge=2)
    packing: Literal["concatenated", "documents"] = setting(
        "concatenated",
        "How documents fill contexts: one after another, or one per context, truncated or padded.",
    )
    bos: Literal["auto", "none", "context", "document"] = setting(
        "auto",
        "Where to put a beginning-of-text token: before every context or document; auto: before "
        "every context if the tokenizer adds one by default.",
    )
    turns: Literal["all", "assistant", "user", "system"] = setting(
        "all", "Whose turns of a conversation count; the others only serve as context."
    )
    batch_contexts: int = setting(64, "Contexts per batch in capture and collect.", ge=1)
    cache: str | None = setting(
        None,
        "An activation cache to read or to create. Without it, `run` stores no activations, and "
        "`capture` writes to <run>/cache.",
        min_length=1,
    )
    store: Literal["bfloat16", "float32", "sparse"] = setting(
        "bfloat16",
        "What a cache holds: activations in bfloat16 or float32, or only the SAE's active features "
        "(sparse). Activations that are not stored are rounded the same way.",
    )

    @field_validator("tokens", mode="before")
    @classmethod
    def _is_no_file(cls, value: Any) -> Any:
        if isinstance(value, str) and Path(value).suffix in TOKEN_ID_FILES:
            raise ValueError(
                f"{value!r} is a file, not a number of tokens; token ids are passed as --token-ids "
                f"{value} (token_ids in a configuration file)"
            )
        return value

    def is_demo(self) -> bool:
        """Whether the demo's SAE is meant: by name, or because no other source is given."""
        return self.coder == DEMO or (
            self.coder is None and self.cache is None and self.subject in (None, DEMO)
        )

    def names_no_source(self) -> bool:
        """Whether no setting says what to label."""
        sources = (self.coder, self.cache, self.subject, self.text, self.hook, self.token_ids)
        return all(name is None for name in sources)

    def token_ids_file(self) -> Path | None:
        return Path(self.token_ids) if self.token_ids is not None else None

    def name(self) -> str:
        """The name of the SAE (not of a random control); without one, of the cache or model."""
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
