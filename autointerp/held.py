"""Things of this process, named in settings as files and folders are: `memory:LABEL@HASH`.

The hash is of the content. Settings, records and what results are known by are then those of any
run, and a run that was interrupted goes on where it is given the same things again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from autointerp.errors import InputError

T = TypeVar("T")
PREFIX = "memory:"
_HASH_CHARACTERS = 16
# Several runs of one process may hold the same thing.
_THINGS: dict[str, list[Any]] = {}


def name_held(label: str, digest: str) -> str:
    return f"{PREFIX}{label.replace('/', '-')}@{digest[:_HASH_CHARACTERS]}"


def label_held(name: str) -> str:
    """What the thing is called, without its hash."""
    return name.removeprefix(PREFIX).rpartition("@")[0]


def digest_held(name: str) -> str:
    return name.rpartition("@")[2]


def is_held(name: str | Path | None) -> bool:
    """Whether the name is that of a thing in memory, and not of a file or a model of the hub."""
    return str(name).startswith(PREFIX)


def held(name: str | Path, kind: type[T]) -> T:
    """The thing of that name. Raises InputError where this process does not have it."""
    found = _THINGS.get(str(name))
    if not found:
        raise InputError(
            f"{name} was an object in memory: continue from Python, passing the same object"
        )
    if not isinstance(found[-1], kind):
        raise InputError(f"{name} is a {type(found[-1]).__name__}, which cannot be used here")
    return found[-1]


@contextmanager
def holding(things: Mapping[str, Any]) -> Iterator[None]:
    """Names stand for these things as long as the block runs."""
    for name, thing in things.items():
        _THINGS.setdefault(name, []).append(thing)
    try:
        yield
    finally:
        for name in things:
            _THINGS[name].pop()
            if not _THINGS[name]:
                del _THINGS[name]
