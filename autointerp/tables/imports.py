"""Labels as other tools keep them.

The texts are anybody's: each becomes one plain line of bounded length, as a model's label does.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from autointerp.errors import InputError
from autointerp.plain_text import tidy

MAX_LABEL = 1000
_MAX_NAME = 100
_MAX_LINE = 1 << 22  # characters of a file's line: rows may carry embeddings
_UNREADABLE = "explanation could not be parsed."  # what Delphi writes where it has none


@dataclass(frozen=True, slots=True)
class Foreign:
    """A label as another tool has it. `labeler` says what made it, `order` which is the newest."""

    feature: int
    text: str
    labeler: str
    order: tuple[str, str] = ("", "")


@dataclass
class ImportedLabels:
    """What the files hold; `unreadable` counts entries that are not labels, by reason."""

    labels: list[Foreign] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)


def _read_neuronpedia(path: Path) -> ImportedLabels:
    """Rows of its exports: a file, a folder `explanations`, or a folder that has some in it."""
    found = ImportedLabels()
    sources: set[tuple[str, str]] = set()
    for file in _explanation_files(path):
        for line in _lines(file):
            row = _json(line)
            if not isinstance(row, dict) or not isinstance(row.get("description"), str):
                found.unreadable["rows are not explanations"] += 1
                continue
            feature = _feature(row.get("index"))
            if feature is None:
                found.unreadable["rows have no index"] += 1
                continue
            sources.add((str(row.get("modelId")), str(row.get("layer"))))
            if len(sources) > 1:
                here = ", ".join(f"{m}/{s}" for m, s in sorted(sources))
                raise InputError(
                    f"{path} has explanations of several sources ({here}): pass "
                    "the folder of one of them"
                )
            made_by = f"{row.get('explanationModelName')}/{row.get('typeName')}"
            order = (str(row.get("createdAt")), str(row.get("id")))
            found.labels.append(Foreign(feature, row["description"], _name(made_by), order))
    return found


def _explanation_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [f for f in path.rglob("*.jsonl*") if f.name.endswith((".jsonl", ".jsonl.gz"))]
    # Some sources have a folder for each model that explained them: explanations-<model>.
    return sorted(f for f in files if f.parent.name.startswith("explanations"))


def _lines(file: Path) -> Iterator[str]:
    """Raises AutointerpError where the file cannot be read, or has a line that is not a row."""
    try:
        with _opened(file) as rows:
            while line := rows.readline(_MAX_LINE):
                if len(line) == _MAX_LINE:
                    raise InputError(f"{file} has a line of over {_MAX_LINE:,} characters")
                if line.strip():
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {error}") from None


def _opened(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", errors="replace")
    return file.open(encoding="utf-8", errors="replace")


def _read_delphi(path: Path) -> ImportedLabels:
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
        if file.stat().st_size > _MAX_LINE:
            raise InputError(
                f"{file} is not a Delphi explanation file: it has {file.stat().st_size:,} bytes"
            )
        text = _json(file.read_text(encoding="utf-8", errors="replace"))
        if not isinstance(text, str) or text.strip().lower() in ("", _UNREADABLE):
            found.unreadable["files are not explanations"] += 1
            continue
        found.labels.append(Foreign(int(named[2]), text, _name(f"{explainer}/{named[1]}")))
    found.labels.sort(key=lambda one: one.feature)
    return found


def _delphi_model(folder: Path) -> str:
    config = folder.parent / "run_config.json"
    if config.is_file() and config.stat().st_size <= _MAX_LINE:
        settings = _json(config.read_text(encoding="utf-8", errors="replace"))
        if isinstance(settings, dict) and isinstance(settings.get("explainer_model"), str):
            return str(settings["explainer_model"])
    return "unknown"


READERS: dict[str, Callable[[Path], ImportedLabels]] = {
    "neuronpedia": _read_neuronpedia,
    "delphi": _read_delphi,
}


def of_one_labeler(
    found: ImportedLabels, path: Path, only: str | None
) -> tuple[str, dict[int, str]]:
    """Who made the labels, and the newest of each feature, cleaned. Raises AutointerpError.

    What is left out for it is counted in `found`.
    """
    labelers = sorted({one.labeler for one in found.labels})
    listed = ", ".join(labelers)
    if not labelers:
        raise InputError(f"{path} holds no labels in this format")
    if only is None and len(labelers) > 1:
        raise InputError(f"{path} has labels by {listed}: choose one with --only")
    labeler = labelers[0] if only is None else only
    chosen = [one for one in found.labels if one.labeler == labeler]
    if not chosen:
        raise InputError(f"{path} has no labels by {only}, only by {listed}")
    newest: dict[int, str] = {}
    for one in sorted(chosen, key=lambda one: one.order):
        text = tidy(one.text)
        if not text:
            found.unreadable["labels are empty"] += 1
            continue
        found.unreadable["labels were truncated"] += len(text) > MAX_LABEL
        found.unreadable["older labels of the same feature"] += one.feature in newest
        newest[one.feature] = text[:MAX_LABEL]
    return labeler, newest


def _json(text: str) -> Any:
    """The value, or None where there is none to read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _feature(index: object) -> int | None:
    """Numbers and digits are both in use."""
    digits = re.fullmatch(r"[0-9]{1,9}", str(index))
    return int(digits[0]) if digits and not isinstance(index, bool) else None


def _name(text: str) -> str:
    return tidy(text)[:_MAX_NAME]
