"""What every stage works on: a run's settings and directory, and what is open of it.

What is opened is opened when it is first needed, and once: stages that follow one another find it
as it is.
"""

import platform
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from typing import Any, TypeVar

import torch

from autointerp import demo
from autointerp.activations.cache import DenseCache
from autointerp.activations.formats import find_cache
from autointerp.coders import SparseCoder, coder_identity, load_coder, randomized
from autointerp.config.settings import RunConfig, all_settings, preferred
from autointerp.errors import ConfigurationError
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore, read_statistics
from autointerp.identity import fingerprint
from autointerp.plain_text import listed
from autointerp.resources.kept_settings import settled
from autointerp.resources.language_model import LanguageModel, open_model
from autointerp.runs.directory import Run
from autointerp.runs.feature_selection import select_among, select_features
from autointerp.runs.record import StageRecord
from autointerp.version import __version__
from autointerp.vocabulary import Vocabulary

Details = TypeVar("Details", bound=StageRecord)
_SOURCES = ("coder", "cache", "subject", "text", "hook", "token_ids")
_RECORDED = ("torch", "transformers", "openai", "pyarrow")


# Stage → the sections of settings, and single settings, that its result is made with.
_RESULTS = {"collect": ("activations", "evidence", "features"), "label": ("labeling",)}
_OF_LATER_STAGES = ("min_windows",)  # although it is in a section of an earlier one


@dataclass(frozen=True)
class Session:
    """One run to be worked on. `features` are the selected ones, ascending."""

    config: RunConfig
    run: Run
    coder: SparseCoder | None  # None where a cache of feature activations is read
    features: list[int]
    recorded_config: RunConfig | None = None  # where the stage's own settings differ from it
    imported_as: str | None = None  # the SAE's name, where the evidence was not collected here

    @cached_property
    def judging(self) -> "Session":
        """The same session for the stage that scores."""
        if self.recorded_config is not None or self.config.judging() is self.config:
            return self
        return replace(self, config=self.config.judging(), recorded_config=self.config)

    @cached_property
    def store(self) -> EvidenceStore:
        """The run's evidence. Raises AutointerpError."""
        return EvidenceStore(self.run.windows, self.run.features)

    @cached_property
    def corpus(self) -> Corpus:
        return Corpus.read(self.run.corpus)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.run.vocabulary)

    @cached_property
    def model(self) -> LanguageModel:
        """The labeling or judging model, its endpoints checked. Raises AutointerpError."""
        device = self.device if self.config.is_local() else None
        return open_model(self.config, self.run, device)

    @property
    def coder_name(self) -> str:
        return self.imported_as or self.config.coder_name()

    @cached_property
    def real_coder_identity(self) -> str:
        """Changes when the coder's files, or how they are read, do: gigabytes, hashed once."""
        spec = _coder_spec(self.config)
        assert spec is not None
        return coder_identity(spec, self.config.coder_format, self.config.k)

    @property
    def coder_identity(self) -> str:
        """Of the coder that encodes: the real one, or the random one in its place."""
        real = self.real_coder_identity
        if not self.config.is_random():
            return real
        return fingerprint(real=real, control=randomized.VERSION, seed=self.config.seed)

    @cached_property
    def device(self) -> torch.device:
        """Where tensors are computed. Raises AutointerpError."""
        wanted = self.config.device
        if wanted == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(wanted)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise ConfigurationError(f"device {wanted!r} cannot be used: {first_line}") from None
        return device

    def record_settings(self, stages: Collection[str]) -> None:
        """Have `run.json` say with what settings and versions these stages are done.

        What the run's other stages were made with stays as they recorded it.
        """
        versions = {name: metadata.version(name) for name in _RECORDED}
        python = platform.python_version()
        self.run.update(
            versions={"autointerp": __version__, "python": python} | versions,
            config=(self.recorded_config or self.config).values() | self._of_others(stages),
        )

    def _of_others(self, stages: Collection[str]) -> dict[str, Any]:
        """Recorded settings of what the run has evidence or labels from, by other stages."""
        known, recorded = all_settings(), self.run.record().config
        done = [s for s in _RESULTS if s not in stages and getattr(self.run.stages(), s)]
        return {
            name: recorded[name]
            for name, one in known.items()
            if name in recorded and name not in _OF_LATER_STAGES
            for stage, sections in _RESULTS.items()
            if stage in done and (one.section in sections or name in sections)
        }

    @contextmanager
    def recorded(self, stage: str, inputs: str, details: Details) -> Iterator[Details]:
        """Record the stage as done if the block ends well, with the details it fills in.

        Until then it counts as not done, even if it was: some of its files may be new already.
        """
        self.record_settings([stage])
        self.run.forget_stages(stage)
        began = time.monotonic()
        self.run.note(f"{stage} begins")
        yield details
        self.run.finish_stage(stage, inputs, time.monotonic() - began, details)


def _coder_spec(config: RunConfig) -> str | None:
    return str(demo.CODER) if config.is_demo() else config.coder


def has_imported(run: Run) -> bool:
    """Whether the run's evidence was imported, and not collected. Raises AutointerpError."""
    collected = run.stages().collect
    return collected is not None and collected.imported is not None


def _imported_session(config: RunConfig, run: Run) -> Session:
    """Of the features that were imported. Raises ConfigurationError where others are meant."""
    for name in _SOURCES:
        if getattr(config, name) is not None:
            raise ConfigurationError(
                f"the evidence in {run.path} was imported: drop --{preferred(name)}, or pass "
                "another --out"
            )
    store = EvidenceStore(run.windows, run.features)
    chosen, missing = select_among(config.features, store.features, config.seed)
    if missing or not chosen:
        raise ConfigurationError(
            f"features {config.features!r}: not all of them were imported into {run.path}, which "
            f"has {len(store.features):,} features: {listed(store.features)}"
        )
    few = read_statistics(run.features, store.features[:1])
    sae = next((row["sae"] for row in few.values()), None)
    return Session(config, run, None, chosen, imported_as=sae or run.path.name)


def model_session(config: RunConfig) -> Session:
    """A session to ask a model and no more: it has neither a coder nor features."""
    return Session(config, Run(config.run_path()), None, [])


def open_session(config: RunConfig, *, coder_needed: bool = True) -> Session:
    """Load the coder and resolve the features. Touches no file of the run. Raises AutointerpError.

    Without a coder the features are those of the run's cache, if it holds feature activations; a
    capture needs neither.
    """
    run = Run(config.run_path())
    config = settled(config, run)
    if has_imported(run):
        return _imported_session(config, run)
    spec = _coder_spec(config)
    if spec is None and not coder_needed:
        return Session(config, run, None, [])
    if spec is not None:
        coder = load_coder(spec, config.coder_format, config.k)
        total = coder.features
    else:
        cache = find_cache(config.cache_path())
        if isinstance(cache, DenseCache):
            raise ConfigurationError(
                f"the cache {cache.path} holds activations: pass the SAE that encodes them with "
                "--sae"
            )
        coder, total = None, cache.features
    return Session(config, run, coder, select_features(config.features, total, config.seed))
