"""Labels of Delphi: a file of JSON a feature."""

import re
from pathlib import Path

from autointerp.errors import InputError
from autointerp.tables.foreign_labels import (
    MAX_LINE_LENGTH,
    Foreign,
    ImportedLabels,
    ImportFormat,
    labeler_named,
    read_json,
)

_UNREADABLE = "explanation could not be parsed."  # what Delphi writes where it has none


def _read(path: Path) -> ImportedLabels:
    """Files `<hookpoint>_latent<N>.txt`, each a string of JSON; `labeler` is the hookpoint's."""
    if not path.is_dir():
        raise InputError(f"{path} is not a Delphi folder: pass its results or its explanations")
    folder = path / "explanations" if (path / "explanations").is_dir() else path
    found = ImportedLabels()
    explainer = _delphi_model(folder)
    for file in folder.iterdir():
        named = re.fullmatch(r"(.+)_latent(\d{1,9})\.txt", file.name)
        if named is None or not file.is_file():
            continue
        if file.stat().st_size > MAX_LINE_LENGTH:
            raise InputError(
                f"{file} is not a Delphi explanation file: it has {file.stat().st_size:,} bytes"
            )
        text = read_json(file.read_text(encoding="utf-8", errors="replace"))
        if not isinstance(text, str) or text.strip().lower() in ("", _UNREADABLE):
            found.unreadable["files are not explanations"] += 1
            continue
        found.labels.append(Foreign(int(named[2]), text, labeler_named(f"{explainer}/{named[1]}")))
    found.labels.sort(key=lambda one: one.feature)
    return found


def _delphi_model(folder: Path) -> str:
    config = folder.parent / "run_config.json"
    if config.is_file() and config.stat().st_size <= MAX_LINE_LENGTH:
        settings = read_json(config.read_text(encoding="utf-8", errors="replace"))
        if isinstance(settings, dict) and isinstance(settings.get("explainer_model"), str):
            return str(settings["explainer_model"])
    return "unknown"


IMPORT = ImportFormat(
    name="delphi",
    about="explanations of Delphi's results",
    read=_read,
    order=20,
)
