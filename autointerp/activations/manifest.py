"""`manifest.json` of a native cache: what was captured, from what, and how."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from autointerp.errors import InputError

FORMAT_VERSION = 2
FILE = "manifest.json"
TOKENS_FILE = "tokens.safetensors"


class Shard(BaseModel):
    file: str = Field(pattern=r"^[^/\\]+$")  # of the cache's own folder
    first_context: int
    contexts: int
    bytes: int
    sha256: str


class Norms(BaseModel):
    """Norms of the activations of valid tokens; `sample_…` of the first contexts alone.

    A token is an outlier when its norm is over 10 times `sample_median`.
    """

    sample_median: float
    sample_mean: float
    median: float
    mean: float
    p999: float


class SparseContent(BaseModel):
    """What a sparse cache was encoded with; `coder_identity` is a hash of the coder's files."""

    coder: str
    coder_identity: str
    features: int
    firings: int


class Manifest(BaseModel):
    """`made_from` is a fingerprint of everything the cache depends on.

    `dtype` is what activations were rounded to: as stored, or before they were encoded.
    """

    format_version: Literal[2] = 2
    producer: str
    made_from: str
    subject: str
    subject_revision: str | None
    tokenizer: str
    tokenizer_sha256: str | None
    hook: str
    hook_module: str
    hook_side: Literal["input", "output"]
    d_in: int
    dtype: Literal["bfloat16", "float32"]
    sparse: SparseContent | None = None
    context_length: int
    contexts: int
    tokens: int  # valid ones
    not_finite: int = 0  # of them
    text: str
    documents: int
    packing: str
    bos: str
    turns: str
    special_token_ids: list[int]
    pad_id: int
    norms: Norms
    shards: list[Shard]


def damaged_file(folder: Path, manifest: Manifest) -> Path | None:
    """A shard that is missing or of another size than was written, or the missing tokens."""
    for shard in manifest.shards:
        file = folder / shard.file
        if not file.is_file() or file.stat().st_size != shard.bytes:
            return file
    return None if (folder / TOKENS_FILE).is_file() else folder / TOKENS_FILE


def read_manifest(folder: Path) -> Manifest:
    """Raises AutointerpError where it is missing or not of this version."""
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"no activation cache at {folder}: {FILE} is missing")
    try:
        return Manifest.model_validate_json(file.read_text())
    except (ValidationError, ValueError, OSError) as error:
        said = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"]) or "the file"
            said = f"{where}: {first['msg']}"
        raise InputError(
            f"{file} is not a manifest of version {FORMAT_VERSION} ({said}): capture "
            "the cache again"
        ) from None
