"""Writing a run's figures, one file each."""

import warnings
from pathlib import Path
from typing import Any, Literal

from autointerp.errors import MissingPackageError
from autointerp.report.overview import overview
from autointerp.runs.directory import Run
from autointerp.storage.files import atomic_path, unwritable

Format = Literal["png", "svg", "pdf"]
# What would make two files of the same numbers differ.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def write_plots(run: Run, out: Path | None, format: Format) -> tuple[list[Path], list[str]]:
    """Write the figures of the run's overview; the files, and which figures are left out and why.

    `out` is the folder, by default `plots` in the run's directory. Raises AutointerpError.
    """
    try:
        from autointerp.report.figures import figures, style
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        raise MissingPackageError(
            "plots need an extra package: pip install 'autointerp[plot]'"
        ) from None
    folder = run.path / "plots" if out is None else out
    found = overview(run)
    written, left_out = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with style(), warnings.catch_warnings():
            # Such a character is drawn as a box, which is seen.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            for name, figure in figures(found):
                if isinstance(figure, str):
                    left_out.append(f"{name}: {figure}")
                    continue
                path = folder / f"{name}.{format}"
                with atomic_path(path) as temporary:
                    figure.savefig(temporary, format=format, metadata=_METADATA[format])
                written.append(path)
    except OSError as error:
        raise unwritable(folder, error) from None
    return written, left_out
