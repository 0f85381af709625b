"""Exports, each in a file of its own that makes its `EXPORT`, and writing one whole."""

from pathlib import Path

from autointerp.errors import InputError
from autointerp.progress import say
from autointerp.runs.directory import Run
from autointerp.storage.files import atomic_path, new_folder, unwritable
from autointerp.tables.exports.export_format import EXPORTS
from autointerp.tables.exports.exported import Source


def export(
    run: Run,
    format_name: str,
    features: str = "all",
    out: Path | None = None,
    *,
    model: str | None = None,
    source_id: str | None = None,
    creator: str = "autointerp",
) -> Path:
    """Write the run's features in another tool's format; returns where. Raises AutointerpError.

    What is written is whole or not there: a folder appears when all its files are in it.
    """
    chosen = EXPORTS.find(format_name)
    if out is None:
        out = run.path / "exports" / (chosen.file or format_name)
    if out.exists():
        raise InputError(f"{out} already exists: remove it, or choose another --out")
    source = Source(run, features, model, source_id, creator)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (atomic_path if chosen.file else new_folder)(out) as temporary:
            chosen.write(source, temporary)
    except OSError as error:
        raise unwritable(out, error) from None
    for reason, count in source.left_out.items():
        if count:
            say(f"export: dropped {count:,} {reason}")
    return out
