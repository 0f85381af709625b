"""Coders: SAEs and transcoders of every supported family, loaded into one form."""

import hashlib
from pathlib import Path
from types import ModuleType

from autointerp.coders.coder import Firings, SparseCoder
from autointerp.coders.formats import FORMATS
from autointerp.errors import UserError
from autointerp.hashing import file_sha256

__all__ = ["Firings", "SparseCoder", "coder_identity", "load_coder"]


def _format_of(path: Path) -> ModuleType:
    if not path.exists():
        raise UserError(f"coder {path}: there is no such file or folder")
    for module in FORMATS:
        if module.matches(path):
            return module
    known = ", ".join(m.__name__.rsplit(".", 1)[1] for m in FORMATS)
    raise UserError(f"coder {path}: not in a format that is known ({known})")


def load_coder(path: Path) -> SparseCoder:
    """The coder at `path`, its format found by its files. Raises UserError."""
    coder: SparseCoder = _format_of(path).load(path)
    return coder


def coder_identity(path: Path) -> str:
    """Changes when the coder's files do."""
    digests = [file_sha256(f) for f in _format_of(path).files(path)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
