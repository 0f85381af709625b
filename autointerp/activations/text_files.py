"""Which files a text is read from: the file, or those of a folder that hold some of it."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from autointerp.activations.row_files import NoColumnError, rows_of
from autointerp.activations.rows import BadRow, field_of, wanted
from autointerp.activations.text_kinds import TextFile, kind_of
from autointerp.errors import AutointerpError, InputError
from autointerp.storage.files import files_identity, files_in

_SHOWN = 20  # files that a remark names
_LOOKED_AT = 100  # rows, for one that has the field
# Files of a data set that are about it: they are not part of its text.
_ABOUT = re.compile(
    r"(readme|license|licence|copying|notice|citation|changelog)\b.*", re.IGNORECASE
)


class SkippedRows(NamedTuple):
    """A file of a folder that is not read."""

    path: Path
    why: str


class TextFiles(NamedTuple):
    taken: list[TextFile]
    left_out: list[SkippedRows]

    def remarks(self) -> list[str]:
        """What was taken of a folder and what was left out, for a person."""
        if len(self.taken) == 1 and not self.left_out:
            return []
        kinds = Counter(f.kind for f in self.taken)
        counts = ", ".join(f"{n:,} of {kind}" for kind, n in sorted(kinds.items()))
        names = [f.path.name for f in self.taken]
        said = [f"the text is {len(names):,} files, {counts}: {_listed(names)}"]
        if self.left_out:
            names = [f"{path.name} ({why})" for path, why in self.left_out]
            said.append(f"skipped {len(names):,} files of the folder: {_listed(names)}")
        return said


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def text_files(path: Path, field: str | None = None) -> TextFiles:
    """The file, or those of a folder, in the order of their names.

    field: where rows have their text. A file of a folder that is hidden, of an unknown kind, about
    a data set, or whose rows have no text is left out. Raises AutointerpError where all are.
    """
    if not path.is_dir():
        found = kind_of(path)
        if isinstance(found, str):
            raise InputError(f"text {path}: {found}")
        return TextFiles([found], [])
    taken = []
    files, left_out = _each_once(files_in(path))
    for file in files:
        found = kind_of(file) if not _is_hidden(file, path) else "hidden"
        if isinstance(found, str):
            left_out.append(SkippedRows(file, found))
        else:
            taken.append(found)
    chosen, others = _of_data_sets(taken, field)
    left_out = sorted([*left_out, *others])
    if not chosen:
        reasons = f": {_listed([f'{p.name} ({why})' for p, why in left_out])}" if left_out else ""
        raise InputError(f"text {path}: the folder holds no readable text file{reasons}")
    return TextFiles(chosen, left_out)


def text_identity(path: Path, field: str | None = None) -> str:
    """Changes when the text does: names, sizes and times of its files, and how they are read."""
    taken = text_files(path, field).taken
    identity = files_identity(file.path for file in taken)
    # What is read as it was before has the identity it had, so that caches of it stay good.
    otherwise = [
        [file.path.name, file.kind, file.packing, file.encoding]
        for file in taken
        if not file.is_read_as_ever
    ]
    return identity + json.dumps(otherwise) if otherwise else identity


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _each_once(files: list[Path]) -> tuple[list[Path], list[SkippedRows]]:
    """Every file by one name: the hub's cache has links with names to files without."""
    name_of: dict[Path, Path] = {}
    for file in files:
        target = file.resolve()
        if target not in name_of or (file.is_symlink() and not name_of[target].is_symlink()):
            name_of[target] = file
    kept = set(name_of.values())
    others = [f for f in files if f not in kept]
    return [f for f in files if f in kept], [
        SkippedRows(f, f"the same as {name_of[f.resolve()].name}") for f in others
    ]


def _of_data_sets(
    files: list[TextFile], field: str | None
) -> tuple[list[TextFile], list[SkippedRows]]:
    """Without rows that have no text, and without what is about the rows of a data set."""
    kept, left_out = [], []
    tables_below: set[Path] = set()  # folders
    saved = {f.path.parent: _saved_files(f.path) for f in files if f.path.name == "state.json"}
    for file in files:
        names = saved.get(file.path.parent)
        if file.kind == "text":
            kept.append(file)
        elif names and file.path.name not in names:
            left_out.append(SkippedRows(file.path, "not one of the saved data set's files"))
        else:
            looked = _looked_at(file, field, file.path.stat().st_mtime_ns)
            if looked.is_table:
                tables_below |= set(file.path.parents)
            if looked.has_field:
                kept.append(file)
            else:
                left_out.append(SkippedRows(file.path, f"rows without {wanted(field)}"))
    about = [f for f in kept if f.path.parent in tables_below and _ABOUT.fullmatch(f.path.name)]
    left_out += [SkippedRows(f.path, "about the data set") for f in about]
    return [f for f in kept if f not in about], left_out


class _Looked(NamedTuple):
    """What the first rows of a file tell. What is broken is to be counted, or said: it is taken."""

    has_field: bool
    is_table: bool


@lru_cache(maxsize=1 << 16)
def _looked_at(file: TextFile, field: str | None, time: int) -> _Looked:
    """time: of the file, so that a changed one is looked at again."""
    try:
        values = [row.value for row in islice(rows_of(file, field), _LOOKED_AT)]
    except NoColumnError:
        return _Looked(has_field=False, is_table=True)
    except AutointerpError:
        return _Looked(has_field=True, is_table=True)
    has_field = any(
        isinstance(v, BadRow) or (isinstance(v, Mapping) and field_of(v, field) is not None)
        for v in values
    )
    return _Looked(has_field, is_table=len(values) > 1)


def _saved_files(state: Path) -> set[str]:
    """The files that `save_to_disk` of `datasets` wrote: its cache may lie beside them."""
    try:
        return {str(entry["filename"]) for entry in json.loads(state.read_text())["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
