"""What an export is: a file of its own, here or in another package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autointerp.registry import AFTER_OURS, Registry
from autointerp.tables.exports.exported import Source


@dataclass(frozen=True)
class ExportFormat:
    """Writes what a Source has into an empty folder or, where `file` names it, into one file."""

    name: str
    about: str
    write: Callable[[Source, Path], None]
    file: str | None = None
    order: int = AFTER_OURS


EXPORTS: Registry[ExportFormat] = Registry("autointerp.exports")
