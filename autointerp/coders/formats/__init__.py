"""Coder file formats. Each module has `matches(path)`, `files(path)` and `load(path)`."""

from types import ModuleType

from autointerp.coders.formats import gemma_scope, qwen_scope, saelens

FORMATS: tuple[ModuleType, ...] = (saelens, qwen_scope, gemma_scope)
