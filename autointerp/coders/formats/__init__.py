"""Coder file formats. Each module has `matches(path)`, `files(path)` and `load(path)`."""

from types import ModuleType

from autointerp.coders.formats import saelens

FORMATS: tuple[ModuleType, ...] = (saelens,)
