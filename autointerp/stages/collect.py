"""collect: cache + coder → windows.parquet and features.parquet, in one pass."""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from autointerp.activations.batch import TokenBatch
from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.activations.hooks import canonical_place
from autointerp.activations.stream import SubjectStream
from autointerp.coders import SparseCoder
from autointerp.coders.randomised import randomised
from autointerp.config import OUTPUT_TOKENS, RunConfig
from autointerp.errors import UserError
from autointerp.evidence.checkpoint import Reached, load_checkpoint, save_checkpoint
from autointerp.evidence.collector import Collector, CollectSettings, working_bytes
from autointerp.evidence.corpus import sampled, write_corpus
from autointerp.evidence.directions import Directions, Ranked, decoder_neighbours, output_tokens
from autointerp.evidence.selection import SelectionSpec
from autointerp.evidence.store import (
    collected_features,
    corpus_summary,
    features_table,
    windows_file,
    write_features,
)
from autointerp.files import atomic_path
from autointerp.firings import Firings
from autointerp.job import Job
from autointerp.memory import free_bytes
from autointerp.progress import say, track
from autointerp.runs import Run, fingerprint
from autointerp.stages.doctor import fit, hook_of
from autointerp.stages.source import Source, identity_of, open_source

NAME = "collect"
CHECKPOINT_EVERY_S = 180.0
_CHECKPOINT = re.compile(r"collect-\d+-of-(\d+)\.checkpoint")
_SIMILAR = 10
_SHARE_OF_FREE = 0.8  # of the memory: batches and merges need some too
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
    if not all(f.is_file() for f in (run.windows, run.features, run.corpus, run.vocabulary)):
        return False
    return set(job.features) <= collected_features(run.features)


def _encoded(
    source: Source, coder: SparseCoder | None, contexts: int, device: torch.device, skip: int
) -> Iterator[tuple[TokenBatch, Firings]]:
    """Every batch of tokens from context `skip` on, with the features that fire on them."""
    if isinstance(source, SparseCache):
        for sparse in source.batches(contexts, device, skip):
            yield sparse, sparse.firings
        return
    assert coder is not None
    if isinstance(source, DenseCache):
        batches = source.batches(contexts, device, skip)
    else:
        batches = source.batches(skip)
    for batch in batches:
        yield batch, coder.encode(batch.activations.flatten(0, 1))


def _checkpoint(run: Run, number: int, passes: int) -> Path:
    return run.path / f"collect-{number}-of-{passes}.checkpoint"


def _checkpoints(run: Run) -> dict[Path, int]:
    """Those that are left, with the number of passes they are of."""
    named = ((f, _CHECKPOINT.fullmatch(f.name)) for f in run.path.glob("collect-*.checkpoint"))
    return {file: int(name[1]) for file, name in named if name}


def _pass(
    job: Job, source: Source, coder: SparseCoder | None, collector: Collector, checkpoint: Path
) -> None:
    """Take in every batch; from the last checkpoint on, where one is left of the same inputs."""
    config, run = job.config, job.run
    inputs = fingerprint(
        source=identity_of(job),
        coder=job.coder_identity if job.coder else None,
        settings=repr(collector.settings),
        features=collector.features.tolist(),
    )
    reached = load_checkpoint(checkpoint, collector, inputs)
    done = reached.contexts
    if done > 0:
        say(f"collect: goes on after {done:,} contexts that were collected before")
    if reached.ended:
        return
    with track(NAME, source.contexts * source.context_length, "tokens") as progress:
        progress.advance(done * source.context_length)
        made = _encoded(source, coder, config.batch_contexts, job.device(), done)
        saved = time.monotonic()
        for batch, firings in made:
            collector.add(batch, firings)
            done += len(batch.token_ids)
            progress.advance(batch.token_ids.numel())
            began = time.monotonic()
            if began - saved >= CHECKPOINT_EVERY_S:
                size = save_checkpoint(checkpoint, collector, inputs, Reached(done, ended=False))
                saved = time.monotonic()
                took = f"{size / 1e6:,.0f} MB in {saved - began:.1f} s"
                run.note(f"collect: checkpoint after {done:,} contexts, {took}")
    collector.settle()
    if len(collector.features) < len(job.features):  # other passes follow, and may be killed
        save_checkpoint(checkpoint, collector, inputs, Reached(done, ended=True))


def run(job: Job) -> None:
    """Collect the evidence of the selected features, unless it is there from the same inputs."""
    config, files = job.config, job.run
    settings = collect_settings(config)
    hashes = {
        "cache": identity_of(job),
        "coder": job.coder_identity if job.coder else None,
    }
    inputs = fingerprint(**hashes, settings=repr(settings))
    if _is_done(job, inputs):
        say(f"collect: done already, {files.windows}")
        return
    source = open_source(job)
    device = job.device()
    if isinstance(source, SparseCache):
        coder, features = None, source.features
    else:
        coder, check = fit(job, source)
        features = coder.features
        for said in (*coder.notes, *check.warnings):
            say(f"collect: {said}")
    known, control = job.coder, None
    if coder is not None and config.is_random():
        assert not isinstance(source, SparseCache)
        known = coder = _random_coder(job, source, coder)
        control = {"kind": config.control, "of": job.real_coder_identity}
    read_decoder = known.read_decoder if known else None
    decoder = read_decoder().weight.to(device) if read_decoder and features > 1 else None
    if decoder is None and config.near_miss_windows > 0:
        lacks = "--coder would tell" if known is None else "the coder has no decoder to tell"
        say(f"collect: keeps no near misses: {lacks} which features are similar")
        settings = without_near_misses(settings)
    length = source.context_length
    if settings.length > length:
        say(f"collect: windows are whole contexts of {length} tokens, not {settings.length}")
    tiles = _tiles(job, min(settings.length, length), settings)
    tables, counters, sketches, corpus = [], [], [], []
    windows = shared = repeated = 0
    with job.recorded(NAME, inputs) as details:
        vocabulary = source.words()
        with windows_file(job.coder_name, vocabulary, files.windows) as write_windows:
            for number, tile in enumerate(tiles):
                if number > 0 and isinstance(source, SubjectStream):
                    source = open_source(job)
                rows = torch.tensor(tile, device=device)
                similar = None if decoder is None else decoder_neighbours(decoder, rows, _SIMILAR)
                encoded = _encoded_features(coder, features, rows, similar)
                collector = Collector(
                    rows, encoded, length, settings, device, similar.item if similar else None
                )
                encoder = coder.restricted(encoded) if coder and len(encoded) < features else coder
                _pass(job, source, encoder, collector, _checkpoint(files, number, len(tiles)))
                shared += collector.drop_texts_shared_between_splits()
                repeated += sum(selection.repeats for selection in collector.selections)
                windows += write_windows(collector)
                found = _directions(decoder, source, rows, similar)
                tables.append(features_table(collector, job.coder_name, vocabulary, found))
                counters.append(collector.statistics.counters())
                sketches.append(collector.statistics.sketches())
                corpus.append(sampled(collector.corpus, encoded))
        with atomic_path(files.vocabulary) as temporary:
            vocabulary.save(temporary)
        write_features(tables, counters, sketches, files.features)
        write_corpus(corpus, vocabulary, files.corpus)
        size = files.windows.stat().st_size
        say(
            f"collect: {windows:,} windows in {size / 1e6:,.1f} MB, "
            f"{size / 1e3 / len(job.features):,.1f} kB a feature"
        )
        # How many repeat a better one depends on what was kept when they came.
        say(
            f"collect: left out at least {repeated:,} windows that repeat a better one, and "
            f"{shared:,} with the text of another split"
        )
        for remark in source.remarks():
            say(f"collect: {remark}")
        details["windows"], details["shared_between_splits"] = windows, shared
        details["repeats_at_least"] = repeated
        details["remarks"] = source.remarks()
        details["corpus"] = corpus_summary(files.features)
        details["hashes"] = hashes
        details["control"] = control
        details["hook"] = hook_of(source) or (job.coder.hook if job.coder else None)
        details["validate_windows"] = _validate_windows(config)
        details["evidence"] = fingerprint(inputs=inputs, features=job.features)
    for left in _checkpoints(files):
        left.unlink()


def _random_coder(job: Job, source: DenseCache | SubjectStream, coder: SparseCoder) -> SparseCoder:
    """A random coder for the real one, made on the first contexts. Raises UserError."""
    x = source.sample(job.config.mask_names()).to(job.device())
    if len(x) == 0:
        raise UserError(
            "no token of the first contexts counts: there is nothing to match a random "
            "coder's densities on"
        )
    made = randomised(coder, x, job.config.seed)
    real, random = (len(c.encode(x).token) / len(x) for c in (coder, made))
    say(
        f"collect: random directions take the place of the coder's features: {random:.3g} of them "
        f"are active on each of the first {len(x):,} tokens, {real:.3g} of the coder's"
    )
    return made


def _tiles(job: Job, length: int, settings: CollectSettings) -> list[list[int]]:
    """The features in as many parts as their evidence has to be kept in, one pass each."""
    selected = job.features
    size = working_bytes(len(selected), length, settings)
    free = free_bytes(job.device())
    limit = size if free is None else _SHARE_OF_FREE * free
    if job.config.memory_gb is not None:
        limit = job.config.memory_gb * 1e9
    needed = max(1, math.ceil(size / limit))
    # Passes that ended before a kill are of use only where the others are as they were.
    passes = min(len(selected), max(needed, *_checkpoints(job.run).values(), 1))
    said = f"collect: evidence of {len(selected):,} features takes {size / 1e9:,.2f} GB of memory"
    if passes > 1:
        why = f"{limit / 1e9:,.2f} GB are to be had" if needed >= passes else "as it was begun"
        said += f", {why}: {passes} passes over the activations"
    say(said)
    each = math.ceil(len(selected) / passes)
    return [selected[begin : begin + each] for begin in range(0, len(selected), each)]


def without_near_misses(settings: CollectSettings) -> CollectSettings:
    kept = tuple(s for s in settings.selections if s.kind != "near_miss")
    return replace(settings, selections=kept)


def _directions(
    decoder: torch.Tensor | None, source: Source, rows: torch.Tensor, similar: Ranked | None
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
    tokens = min(len(unembedding), len(source.words()))
    raised, lowered = output_tokens(decoder, unembedding[:tokens], gain, rows, OUTPUT_TOKENS)
    return Directions(similar, raised, lowered)


def _encoded_features(
    coder: SparseCoder | None, features: int, rows: torch.Tensor, similar: Ranked | None
) -> torch.Tensor:
    """What has to be encoded to collect `rows`: int64 [encoded], ascending.

    All features where they compete; else these alone, and those that make their near misses.
    """
    if coder is None or not coder.independent:
        return torch.arange(features, device=rows.device)
    wanted = rows if similar is None else torch.cat([rows, similar.item.flatten()])
    encoded: torch.Tensor = wanted.unique()
    return encoded
