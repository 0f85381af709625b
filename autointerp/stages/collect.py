"""collect: cache + coder → windows.parquet and features.parquet, in one pass."""

import shutil

import torch

from autointerp.activations.cache import ActivationCache
from autointerp.coders import coder_identity
from autointerp.config import RunConfig
from autointerp.errors import UserError
from autointerp.evidence.collector import Collector, CollectSettings
from autointerp.evidence.selection import SelectionSpec
from autointerp.evidence.store import (
    EvidenceStore,
    corpus_summary,
    write_features,
    write_windows,
)
from autointerp.files import atomic_path
from autointerp.job import Job
from autointerp.progress import say, track
from autointerp.runs import Run, fingerprint
from autointerp.stages.capture import check_width
from autointerp.vocabulary import Vocabulary

NAME = "collect"
_VALIDATE_WINDOWS = 8  # of each kind, kept for choosing between candidate labels


def _settings(config: RunConfig) -> CollectSettings:
    few, score = _VALIDATE_WINDOWS, config.score_windows
    selections = (
        SelectionSpec("top", "label", config.top_windows),
        SelectionSpec("sample", "label", config.sample_windows),
        SelectionSpec("negative", "label", config.negative_windows),
        SelectionSpec("top", "validate", few),
        SelectionSpec("sample", "validate", few),
        SelectionSpec("negative", "validate", few),
        SelectionSpec("top", "score", score),
        SelectionSpec("sample", "score", score),
        SelectionSpec("negative", "score", score),
    )
    return CollectSettings(
        length=config.window_length,
        before=config.window_before,
        selections=tuple(s for s in selections if s.k > 0),
        seed=config.seed,
    )


def evidence_identity(run: Run) -> str:
    """Changes when the run's evidence does. Raises UserError where there is none."""
    identity: str | None = run.stage(NAME).get("evidence")
    if identity is None or not run.windows.is_file():
        raise UserError(f"no evidence in {run.path}: run `autointerp collect` first")
    return identity


def _is_done(job: Job, inputs: str) -> bool:
    run = job.run
    if run.stage(NAME).get("inputs") != inputs:
        return False
    if not all(f.is_file() for f in (run.windows, run.features, run.vocabulary)):
        return False
    collected = EvidenceStore(run.windows, run.features).statistics
    return all(feature in collected for feature in job.features)


def run(job: Job) -> None:
    """Collect the evidence of the selected features, unless it is there from the same inputs."""
    config, files = job.config, job.run
    cache = ActivationCache(config.cache_path())
    check_width(job, cache)
    settings = _settings(config)
    hashes = {"cache": cache.identity(), "coder": coder_identity(job.coder_path)}
    inputs = fingerprint(**hashes, settings=repr(settings))
    if _is_done(job, inputs):
        say(f"collect: done already, {files.windows}")
        return
    vocabulary_file = cache.path / "vocabulary.parquet"
    vocabulary = Vocabulary.load(vocabulary_file)
    device = job.device()
    coder = job.coder.to(device)
    length = cache.manifest.context_length
    if settings.length > length:
        say(f"collect: windows are whole contexts of {length} tokens, not {settings.length}")
    with job.recorded(NAME, inputs) as details:
        collector = Collector(torch.tensor(job.features), coder.features, length, settings, device)
        with track(NAME, cache.manifest.contexts * length, "tokens") as progress:
            for batch in cache.batches(config.batch_contexts, device):
                collector.add(batch, coder.encode(batch.activations.flatten(0, 1)))
                progress.advance(batch.token_ids.numel())
        details["duplicates_dropped"] = collector.drop_texts_shared_between_splits()
        with atomic_path(files.vocabulary) as temporary:
            shutil.copyfile(vocabulary_file, temporary)
        details["windows"] = write_windows(collector, job.coder_name, vocabulary, files.windows)
        write_features(collector, job.coder_name, vocabulary, files.features)
        details["corpus"] = corpus_summary(files.features)
        details["hashes"] = hashes
        details["evidence"] = fingerprint(inputs=inputs, features=job.features)
