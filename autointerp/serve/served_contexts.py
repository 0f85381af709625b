"""The whole context around a window, from the activations' cache where one was kept."""

import threading
from functools import cached_property
from pathlib import Path

from autointerp.activations.activation_batch import VALID
from autointerp.activations.cache import Cache
from autointerp.activations.formats import find_cache, with_token_ids
from autointerp.config.settings import RunConfig
from autointerp.errors import InputError
from autointerp.runs.directory import Run
from autointerp.serve.shapes import ContextText
from autointerp.vocabulary import Vocabulary


class ServedContexts:
    """Opened at the first request; activations are not read.

    The cache is the one in the run's own folder, or the one that whoever serves the run names: a
    path in the run's record is shown and not opened.
    """

    def __init__(self, run: Run, own: RunConfig) -> None:
        self._run = run
        self._path = Path(own.cache) if own.cache else run.path / "cache"
        self._tokens_file = own.token_ids_file()
        self._lock = threading.Lock()

    def text(self, context: int) -> ContextText:
        """Raises AutointerpError where the run's cache is not there, or has no such context."""
        with self._lock:
            cache, vocabulary = self._cache, self._vocabulary
        if not 0 <= context < cache.contexts:
            raise InputError(
                f"context {context}: the cache {cache.path} has contexts 0 to "
                f"{cache.contexts - 1:,}"
            )
        pieces = vocabulary.pieces(cache.text()[context].tolist())
        shown = (cache.mask[context] & VALID).tolist()
        return ContextText(
            context, [piece if valid else "" for piece, valid in zip(pieces, shown, strict=True)]
        )

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self._run.vocabulary)

    @cached_property
    def _cache(self) -> Cache:
        path = self._path
        if not path.exists():
            named = self._run.settings().text("cache")
            hint = f" (the run's record says {named})" if named else ""
            raise InputError(
                f"there is no activation cache at {path}: to see contexts, pass the "
                f"run's cache with `autointerp serve --cache PATH`{hint}"
            )
        cache = with_token_ids(find_cache(path), self._tokens_file)
        collected = self._run.stages().collect
        read = collected.hashes.cache if collected else None
        # The name of the model whose tokenizer is taken may follow.
        if not f"{read} ".startswith(f"{cache.identity} "):
            raise InputError(f"{path} is not the cache that the run's windows come from")
        return cache
