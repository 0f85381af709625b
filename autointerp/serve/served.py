"""The run that is served, and what is remembered of it between requests."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError, ConfigurationError
from autointerp.report.feature import FeaturePages
from autointerp.report.overview import Overview, overview
from autointerp.resources import model_facts
from autointerp.runs.directory import Run
from autointerp.scoring.scorers import embedding
from autointerp.serve.labels import LabelView, read_labels
from autointerp.serve.meaning import Meanings
from autointerp.serve.served_contexts import ServedContexts

T = TypeVar("T")


class Fresh(Generic[T]):
    """What is made of files, made anew when one of them has changed: a run may be writing them."""

    def __init__(self, files: Sequence[Path], make: Callable[[], T]) -> None:
        self._files = files
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[list[Any], T] | None = None

    def now(self) -> T:
        """Raises what making it raises."""
        with self._lock:
            # Looked at before they are read: what is written meanwhile is seen the next time.
            states = [_state(file) for file in self._files]
            if self._made is None or self._made[0] != states:
                self._made = (states, self._make())
            return self._made[1]

    def forget(self) -> None:
        with self._lock:
            self._made = None


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Served:
    """One run, and the settings of the person who serves it.

    What is asked, opened or loaded is named by `own` alone. The run may come from a stranger: its
    recorded settings are shown. Raises InputError where its record cannot be read, or what `own`
    names is not there.
    """

    def __init__(self, run: Run, own: RunConfig) -> None:
        self.run = run
        self.own = own
        run.settings()
        if "prompts" in own.model_fields_set and not Path(own.prompts).is_dir():
            raise ConfigurationError(f"prompts {own.prompts}: no such folder")
        if own.uses_model():
            model_facts.endpoints(own)  # a missing key, or local model, is said at once
        self.labels: Fresh[LabelView] = Fresh([run.labels, run.edits], lambda: read_labels(run))
        self.overview: Fresh[Overview] = Fresh(
            [run.manifest, run.labels, run.scores, run.predictions], lambda: overview(run)
        )
        self.pages: Fresh[FeaturePages] = Fresh(
            [run.windows, run.features, run.corpus, run.vocabulary, run.labels, run.edits],
            lambda: FeaturePages(run),
        )
        self.meanings = Meanings(
            run, own.settings_of(embedding.NAME, embedding.EmbeddingSettings).model
        )
        self.contexts = ServedContexts(run, own)

    def warm(self) -> None:
        """Make what takes long on large runs before somebody waits for it."""
        for made in (self.labels, self.overview):
            with suppress(AutointerpError):  # said to whoever asks
                made.now()

    def close(self) -> None:
        """Let go of what would outlive the server; the frameworks under it keep their routes."""
        self.meanings.close()
        self.labels.forget()

    @property
    def name(self) -> str:
        return self.run.path.resolve().name
