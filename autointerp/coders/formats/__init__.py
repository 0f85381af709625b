"""Coder file formats. Each has `matches(path)`, `files(path)` and `load(path, k)`."""

from types import ModuleType

from autointerp.coders.formats import (
    dictionary_learning,
    gemma_scope,
    linear_pt,
    llama_scope,
    openai,
    openmoss,
    qwen_scope,
    saelens,
    sparsify,
    transcoder,
)

FORMATS: dict[str, ModuleType] = {
    module.__name__.rsplit(".", 1)[1]: module
    for module in (
        saelens,
        qwen_scope,
        gemma_scope,
        dictionary_learning,
        sparsify,
        llama_scope,
        openmoss,
        openai,
        transcoder,
        linear_pt,
    )
}
