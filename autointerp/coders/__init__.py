"""SAEs and transcoders of every supported family, loaded as a `SparseCoder`."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from autointerp.coders.coder import SparseCoder
from autointerp.coders.coder_files import Corrections, locate
from autointerp.coders.coder_format import CODER_FORMATS, CoderFormat
from autointerp.coders.formats import unsupported
from autointerp.errors import AutointerpError, ConfigurationError, InputError
from autointerp.held import digest_held, held, is_held
from autointerp.tensors.firings import Firings
from autointerp.tensors.hashing import file_sha256

__all__ = ["Firings", "SparseCoder", "coder_identity", "load_coder"]

_STUMBLES = (
    *(ArithmeticError, AttributeError, LookupError, OSError),
    *(RuntimeError, TypeError, ValueError),
)


def _format_of(path: Path, named: str | None) -> CoderFormat:
    if not path.exists():
        raise InputError(f"SAE {path}: no such file or folder")
    if named is not None:
        try:
            return CODER_FORMATS.find(named)
        except AutointerpError as error:
            raise ConfigurationError(f"--sae-format {named}: {error}") from None
    kind = unsupported.kind_of(path)
    if kind is not None:
        raise InputError(f"SAE {path} is {kind}, which is not supported")
    for known in CODER_FORMATS.values():
        if known.matches(path):
            return known
    raise InputError(
        f"SAE {path}: the format was not recognized (supported: {', '.join(CODER_FORMATS)}); set "
        "it with --sae-format"
    )


def load_coder(spec: str | Path, format: str | None = None, k: int | None = None) -> SparseCoder:
    """Load an SAE: a path, `hf:owner/repo/file`, `saelens:release/id`, or one in memory.

    Its format is detected from its files unless it is given; `k` overrides that of TopK SAEs.
    Raises AutointerpError.
    """
    if is_held(spec):
        return held(spec, SparseCoder)
    located = locate(str(spec))
    with _as_input_errors(located.path):
        coder = _format_of(located.path, format).load(located.path, k)
        coder = _corrected(coder, located.corrections)
    # Thresholds may be infinite: such a feature never fires.
    if not bool(torch.isfinite(coder.encoder).all() and torch.isfinite(coder.bias).all()):
        raise InputError(
            f"SAE {located.path}: its weights are no longer finite after scaling by "
            "the norms in its files: check those"
        )
    return coder


@contextmanager
def _as_input_errors(path: Path) -> Iterator[None]:
    """Whatever a format stumbles over in files that are not as it expects, as a user's error."""
    try:
        yield
    except _STUMBLES as error:
        said = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"SAE {path}: its files do not follow this format ({type(error).__name__}: {said})"
        ) from error


def _corrected(coder: SparseCoder, known: Corrections) -> SparseCoder:
    if known.unit_rms:
        coder = replace(coder, input_norm="unit_rms")
    if known.centered:
        coder = coder.centered()
    if known.input_scale is not None and coder.input_norm == "mean_norm":
        coder = coder.scaled_input(known.input_scale)
    if coder.expected_l0 is None:
        coder = replace(coder, expected_l0=known.expected_l0)
    return coder


def coder_identity(spec: str | Path, format: str | None = None, k: int | None = None) -> str:
    """Changes when the coder's files, or how they are read, do."""
    if is_held(spec):
        return digest_held(str(spec))
    located = locate(str(spec))
    with _as_input_errors(located.path):
        files = _format_of(located.path, format).files(located.path)
    digests = [file_sha256(f) for f in files]
    read_as = f"{format} {k} {located.corrections}"
    return hashlib.sha256("".join([*digests, read_as]).encode()).hexdigest()
