"""What can be added without touching what is there: scorers, formats of SAEs and caches, exports,
imports.

An entry is a frozen dataclass of typed functions, so that mypy checks what is registered in the
file that makes it. Entries of this package are found in their kind's folder, one of another package
by an entry point of the kind's group: `overlap = "its_package.overlap:SCORER"`.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

from autointerp.errors import ConfigurationError
from autointerp.progress import say


class Entry(Protocol):
    """`about` is a line of help. Lists go by `order`, then by name: the package's own are first."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def order(self) -> int: ...


AFTER_OURS = 1000  # the order of an entry that names none


@dataclass(frozen=True)
class _Kind:
    """`folder`: where this package has its own, each module's as the constant of this name."""

    word: str
    folder: str
    constant: str


_KINDS = {
    "autointerp.scorers": _Kind("scorer", "autointerp.scoring.scorers", "SCORER"),
    "autointerp.coders": _Kind("SAE format", "autointerp.coders.formats", "CODER_FORMAT"),
    "autointerp.caches": _Kind("cache format", "autointerp.activations.formats", "CACHE_FORMAT"),
    "autointerp.exports": _Kind("export format", "autointerp.tables.exports", "EXPORT"),
    "autointerp.imports": _Kind("import format", "autointerp.tables.imports", "IMPORT"),
    "autointerp.records": _Kind(
        "record format", "autointerp.activations.record_formats", "RECORD_FORMAT"
    ),
}
E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E]):
    """The entries of one group by name, in order: those that cannot be loaded are left out."""

    def __init__(self, group: str) -> None:
        self._group = group

    def __getitem__(self, name: str) -> E:
        entry: E = _load(self._group)[0][name]
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(_load(self._group)[0])

    def __len__(self) -> int:
        return len(_load(self._group)[0])

    def find(self, name: str) -> E:
        """Raises AutointerpError where there is none of the name, or it cannot be loaded."""
        found, broken = _load(self._group)
        if name not in found:
            none = f"there is no {_KINDS[self._group].word} {name!r}; there are {', '.join(found)}"
            raise ConfigurationError(broken.get(name, none))
        return self[name]


@cache
def _load(group: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The entries by name, and of those that cannot be loaded why, in a line, which is said."""
    kind = _KINDS[group]
    names = [m.name for m in pkgutil.iter_modules(importlib.import_module(kind.folder).__path__)]
    modules = [importlib.import_module(f"{kind.folder}.{name}") for name in names]
    ours = [getattr(m, kind.constant) for m in modules if hasattr(m, kind.constant)]
    found, broken = {entry.name: entry for entry in ours}, {}
    for point in entry_points(group=group):
        package = point.dist.name if point.dist is not None else point.module
        where = f"{kind.word} {point.name} of the package {package}"
        try:
            entry = point.load()
        except Exception as error:  # another package's code can do anything wrong
            said = next(iter(str(error).splitlines()), "")
            broken[point.name] = f"{where} cannot be loaded: {type(error).__name__}: {said}"
            continue
        if type(entry) is not type(ours[0]) or entry.name != point.name or entry.name in found:
            wanted = f"an entry of class {type(ours[0]).__name__} with this name, which is free"
            broken[point.name] = f"{where} cannot be used: {point.value} must be {wanted}"
            continue
        found[entry.name] = entry
    for line in broken.values():
        say(line)
    return dict(sorted(found.items(), key=lambda pair: (pair[1].order, pair[0]))), broken
