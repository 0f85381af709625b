"""collect: cache + coder → windows.parquet and features.parquet, in one pass."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.activations.finite import check_finite
from autointerp.activations.hooks import canonical_place
from autointerp.activations.stream import SubjectStream
from autointerp.coders import SparseCoder
from autointerp.coders.randomized import randomized
from autointerp.config.settings import OUTPUT_TOKENS, RunConfig
from autointerp.errors import ConfigurationError, NotDoneError
from autointerp.evidence.collector import Collector, CollectSettings
from autointerp.evidence.corpus import sampled, write_corpus
from autointerp.evidence.directions import Directions, Ranked, decoder_neighbors, output_tokens
from autointerp.evidence.selection import SelectionSpec
from autointerp.evidence.store import (
    collected_features,
    corpus_summary,
    features_table,
    windows_file,
    write_features,
)
from autointerp.identity import fingerprint
from autointerp.progress import say
from autointerp.resources.activation_source import Source, identity_of, open_source, place_of
from autointerp.runs.directory import Run
from autointerp.runs.session import Job
from autointerp.stages.collect.one_pass import Pass, checkpoints
from autointerp.stages.collect.planning import Share, shared_out
from autointerp.stages.collect.workers import read_pass
from autointerp.stages.doctor import fit, hook_of
from autointerp.storage.files import atomic_path

NAME = "collect"
CHECKPOINT_EVERY_S = 180.0
_SIMILAR = 10
_WRITTEN_TO_RESIDUAL = ("residual", "resid_pre", "resid_mid", "attn_out", "mlp_out")
_VALIDATE_WINDOWS = 8  # of each kind, kept for choosing between candidate labels
# Sampled and silent ones to try rules on. Of 35 each, the interval of a balanced accuracy begins at
# 0.95 if all are judged right; of so many, four of them may be judged wrong.
TRIED_WINDOWS = 100


def _validate_windows(config: RunConfig) -> int:
    return TRIED_WINDOWS if config.tier == "lexical-first" else _VALIDATE_WINDOWS


def collect_settings(config: RunConfig) -> CollectSettings:
    few, score = _validate_windows(config), config.score_windows
    selections = (
        SelectionSpec("top", "label", config.top_windows),
        SelectionSpec("sample", "label", config.sample_windows),
        SelectionSpec("negative", "label", config.negative_windows),
        SelectionSpec("near_miss", "label", config.near_miss_windows),
        SelectionSpec("top", "validate", _VALIDATE_WINDOWS),
        SelectionSpec("sample", "validate", few),
        SelectionSpec("negative", "validate", few),
        SelectionSpec("top", "score", score),
        SelectionSpec("sample", "score", score),
    )
    return CollectSettings(
        length=config.window_length,
        before=config.window_before,
        selections=tuple(s for s in selections if s.k > 0),
        seed=config.seed,
        repeats=config.repeats,
        masks=config.mask_names(),
        corpus=config.corpus_windows,
    )


def has_evidence(run: Run) -> bool:
    return run.stage(NAME).get("evidence") is not None and run.windows.is_file()


def evidence_identity(run: Run) -> str:
    """Changes when the run's evidence does. Raises AutointerpError where there is none."""
    if not has_evidence(run):
        raise NotDoneError(f"no evidence in {run.path}: run `autointerp collect` first")
    return str(run.stage(NAME)["evidence"])


def _is_done(job: Job, inputs: str) -> bool:
    run = job.run
    if run.stage(NAME).get("inputs") != inputs:
        return False
    if not all(f.is_file() for f in (run.windows, run.features, run.corpus, run.vocabulary)):
        return False
    return set(job.features) <= collected_features(run.features)


@dataclass(frozen=True)
class _Prepared:
    """What a run collects from: `coder` is on the device and calibrated, None for its firings."""

    source: Source
    coder: SparseCoder | None
    features: int  # of the coder
    decoder: Tensor | None  # [features, d_in]
    settings: CollectSettings
    control: dict[str, Any] | None


def _prepared(job: Job, settings: CollectSettings) -> _Prepared:
    """Open the source and fit the coder to it. Raises AutointerpError."""
    source = open_source(job)
    if isinstance(source, SparseCache):
        coder, features = None, source.features
    else:
        coder, check = fit(job, source)
        features = coder.features
        for said in (*coder.notes, *check.warnings):
            say(f"collect: {said}")
    known, control = job.coder, None
    if coder is not None and job.config.is_random():
        assert not isinstance(source, SparseCache)
        known = coder = _random_coder(job, source, coder)
        control = {"kind": job.config.control, "of": job.real_coder_identity}
    read_decoder = known.read_decoder if known else None
    decoder = read_decoder().weight.to(job.device()) if read_decoder and features > 1 else None
    if decoder is None and job.config.near_miss_windows > 0:
        lacks = "--coder would tell" if known is None else "the coder has no decoder to tell"
        say(f"collect: keeps no near misses: {lacks} which features are similar")
        settings = without_near_misses(settings)
    if settings.length > source.context_length:
        length = source.context_length
        say(f"collect: windows are whole contexts of {length} tokens, not {settings.length}")
    return _Prepared(source, coder, features, decoder, settings, control)


def run(job: Job) -> None:
    """Collect the evidence of the selected features, unless it is there from the same inputs."""
    config, files = job.config, job.run
    settings = collect_settings(config)
    hashes = {
        "cache": identity_of(job),
        "coder": job.coder_identity if job.coder else None,
    }
    inputs = fingerprint(**hashes, settings=settings.identity())
    if _is_done(job, inputs):
        say(f"collect: done already, {files.windows}")
        return
    prepared = _prepared(job, settings)
    share = shared_out(job, prepared.source, prepared.settings)
    with job.recorded(NAME, inputs) as details:
        written = _write(job, prepared, share, fingerprint(**hashes))
        size = files.windows.stat().st_size
        say(
            f"collect: {written.windows:,} windows in {size / 1e6:,.1f} MB, "
            f"{size / 1e3 / len(job.features):,.1f} kB a feature"
        )
        # How many repeat a better one depends on what was kept when they came.
        say(
            f"collect: left out at least {written.repeats:,} windows that repeat a better one, and "
            f"{written.shared:,} with the text of another split"
        )
        for remark in written.remarks:
            say(f"collect: {remark}")
        hook = hook_of(prepared.source) or (job.coder.hook if job.coder else None)
        details["windows"], details["shared_between_splits"] = written.windows, written.shared
        details["repeats_at_least"] = written.repeats
        details["remarks"] = written.remarks
        details["corpus"] = corpus_summary(files.features)
        details["hashes"] = hashes
        details["control"] = prepared.control
        details["hook"] = hook
        details["validate_windows"] = _validate_windows(config)
        details["evidence"] = fingerprint(inputs=inputs, features=job.features)
    for left in checkpoints(files):
        left.unlink()


@dataclass(frozen=True)
class _Written:
    """How many windows were written, and left out; what is to be said of the source."""

    windows: int
    repeats: int  # at least
    shared: int  # between splits
    remarks: list[str]


def _write(job: Job, prepared: _Prepared, share: Share, inputs: str) -> _Written:
    """Collect tile after tile and write the run's files of evidence."""
    files, source = job.run, prepared.source
    place = place_of(job, source)
    vocabulary = source.get_vocabulary()
    tables, counters, sketches, corpus = [], [], [], []
    windows = shared = repeats = 0
    remarks: list[str] = []
    with windows_file(job.coder_name, vocabulary, files.windows) as write_windows:
        for number, tile in enumerate(share.tiles):
            if number > 0 and share.processes == 1 and isinstance(source, SubjectStream):
                source = open_source(job)
            rows = torch.tensor(tile, device=job.device())
            similar = _similar(prepared, rows)
            this = _pass(job, prepared, share, number, rows, similar, inputs)
            collector, remarks = read_pass(this, source, place, share.processes)
            remarks = [*remarks, *_not_finite(job, source, collector)]
            left_out = collector.choose()
            repeats, shared = repeats + left_out.repeats, shared + left_out.shared
            windows += write_windows(collector)
            found = _directions(prepared.decoder, source, rows, similar)
            tables.append(features_table(collector, job.coder_name, vocabulary, found))
            counters.append(collector.statistics.counters())
            sketches.append(collector.statistics.sketches())
            corpus.append(sampled(collector.corpus, this.encoded))
    with atomic_path(files.vocabulary) as temporary:
        vocabulary.save(temporary)
    write_features(tables, counters, sketches, files.features)
    write_corpus(corpus, vocabulary, files.corpus)
    return _Written(windows, repeats, shared, remarks)


def _not_finite(job: Job, source: Source, collector: Collector) -> list[str]:
    """What to warn of once all is read.

    Raises AutointerpError where most activations are not finite.
    """
    masked = collector.statistics.masked
    contexts = source.contexts_read if isinstance(source, SubjectStream) else source.contexts
    tokens = contexts * source.context_length - masked["padding"]
    name = str(job.config.cache or job.config.subject or "the demo's subject")
    return check_finite(masked["not_finite"], tokens, name)


def _similar(prepared: _Prepared, rows: Tensor) -> Ranked | None:
    decoder = prepared.decoder
    return None if decoder is None else decoder_neighbors(decoder, rows, _SIMILAR)


def _pass(
    job: Job,
    prepared: _Prepared,
    share: Share,
    number: int,
    rows: Tensor,
    similar: Ranked | None,
    inputs: str,
) -> Pass:
    coder = prepared.coder
    encoded = _encoded_features(coder, prepared.features, rows, similar)
    if coder is not None and len(encoded) < prepared.features:
        coder = coder.restricted(encoded)
    return Pass(
        run=job.run,
        number=number,
        passes=len(share.tiles),
        coder=coder,
        rows=rows,
        encoded=encoded,
        similar=similar.item if similar else None,
        context_length=prepared.source.context_length,
        settings=prepared.settings,
        batch_contexts=job.config.batch_contexts,
        inputs=fingerprint(
            inputs=inputs, settings=prepared.settings.identity(), features=rows.tolist()
        ),
        checkpoint_every_s=CHECKPOINT_EVERY_S,
    )


def _random_coder(job: Job, source: DenseCache | SubjectStream, coder: SparseCoder) -> SparseCoder:
    """A random coder for the real one, made on the first contexts. Raises AutointerpError."""
    x = source.sample(job.config.mask_names()).to(job.device())
    if len(x) == 0:
        raise ConfigurationError(
            "no token of the first contexts counts: there is nothing to match a random "
            "coder's densities on"
        )
    made = randomized(coder, x, job.config.seed)
    real, random = (len(c.encode(x).token) / len(x) for c in (coder, made))
    say(
        f"collect: random directions take the place of the coder's features: {random:.3g} of them "
        f"are active on each of the first {len(x):,} tokens, {real:.3g} of the coder's"
    )
    return made


def without_near_misses(settings: CollectSettings) -> CollectSettings:
    kept = tuple(s for s in settings.selections if s.kind != "near_miss")
    return replace(settings, selections=kept)


def _directions(
    decoder: Tensor | None, source: Source, rows: Tensor, similar: Ranked | None
) -> Directions:
    """Similar features and, where the subject model is at hand, output tokens of decoder rows."""
    place = canonical_place(hook_of(source) or "")
    output = source.subject.unembedding() if isinstance(source, SubjectStream) else None
    if decoder is None or output is None:
        return Directions(similar)
    unembedding, gain = (tensor.to(decoder.device) for tensor in output)
    if place is None or place[0] not in _WRITTEN_TO_RESIDUAL:
        return Directions(similar)
    if unembedding.shape[1] != decoder.shape[1]:
        return Directions(similar)
    tokens = min(len(unembedding), len(source.get_vocabulary()))
    raised, lowered = output_tokens(decoder, unembedding[:tokens], gain, rows, OUTPUT_TOKENS)
    return Directions(similar, raised, lowered)


def _encoded_features(
    coder: SparseCoder | None, features: int, rows: Tensor, similar: Ranked | None
) -> Tensor:
    """What has to be encoded to collect `rows`: int64 [encoded], ascending.

    All features where they compete; else these alone, and those that make their near misses.
    """
    if coder is None or not coder.independent:
        return torch.arange(features, device=rows.device)
    wanted = rows if similar is None else torch.cat([rows, similar.item.flatten()])
    encoded: Tensor = wanted.unique()
    return encoded
