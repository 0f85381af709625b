"""collect: cache + coder → windows.parquet and features.parquet, in one pass."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.activations.finite import check_finite
from autointerp.activations.hooks import canonical_place
from autointerp.activations.stream import SubjectStream
from autointerp.coders import SparseCoder
from autointerp.coders.randomized import randomized
from autointerp.config.labeling_settings import OUTPUT_TOKENS
from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError, NotDoneError
from autointerp.evidence.checkpoint import CHECKPOINT_VERSION
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
from autointerp.identity import fingerprint, since_first
from autointerp.plain_text import counted
from autointerp.progress import say
from autointerp.resources.activation_source import (
    Source,
    check,
    identity_of,
    open_source,
    place_of,
)
from autointerp.resources.session import Session
from autointerp.runs.directory import Run
from autointerp.runs.record import CollectedFrom, CollectRecord, ControlOf, CorpusSummary
from autointerp.stages.collect.one_pass import Pass, checkpoints
from autointerp.stages.collect.planning import Share, shared_out
from autointerp.stages.collect.workers import read_pass
from autointerp.stages.doctor import fit, hook_of
from autointerp.stages.stage import Stage
from autointerp.storage.files import atomic_path

NAME = "collect"
CHECKPOINT_EVERY_S = 180.0
_SIMILAR = 10
_WRITTEN_TO_RESIDUAL = ("residual", "resid_pre", "resid_mid", "attn_out", "mlp_out")
_VALIDATE_WINDOWS = 8  # of each kind, kept for choosing between candidate labels
# Sampled and silent ones to try rules on. Of 35 each, the interval of a balanced accuracy begins at
# 0.95 if all are judged right; of so many, four of them may be judged wrong.
TRIED_WINDOWS = 100


def validate_windows(config: RunConfig) -> int:
    return TRIED_WINDOWS if config.tier == "lexical-first" else _VALIDATE_WINDOWS


def collect_settings(config: RunConfig) -> CollectSettings:
    few, score = validate_windows(config), config.score_windows
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
        split=config.split or "document",
    )


def _evidence(run: Run) -> str | None:
    collected = run.stages().collect
    return collected.evidence if collected is not None and run.windows.is_file() else None


def no_evidence(run: Run) -> str | None:
    """What to say where a run has no evidence; None where it has."""
    if _evidence(run) is not None:
        return None
    return f"no evidence in {run.path}: run `autointerp collect` first"


def evidence_identity(run: Run) -> str:
    """Changes when the run's evidence does. Raises AutointerpError where there is none."""
    evidence = _evidence(run)
    if evidence is None:
        raise NotDoneError(no_evidence(run))
    return evidence


def _hashes(session: Session) -> dict[str, str | None]:
    """What the evidence is made from, apart from how."""
    return {
        "cache": identity_of(session),
        "coder": session.coder_identity if session.coder else None,
    }


def inputs(session: Session) -> str:
    if session.imported_as is not None:
        return imported_inputs(session.run)
    settings = collect_settings(session.config)
    return fingerprint(**_hashes(session), settings=settings.identity())


def is_done(session: Session, inputs: str) -> bool:
    """Whether the evidence of the selected features is there from the same inputs."""
    run = session.run
    collected = run.stages().collect
    if collected is None or collected.inputs != inputs:
        return False
    if session.imported_as is not None:
        _check_imported(run)
    if not all(f.is_file() for f in (run.windows, run.features, run.corpus, run.vocabulary)):
        return False
    return set(session.features) <= collected_features(run.features)


def already(session: Session) -> str:
    done = "already done" if session.imported_as is None else "imported"
    return f"{done}: {session.run.windows}"


def imported_inputs(run: Run) -> str:
    """What the run's imported evidence was made from. Raises NotDoneError."""
    collected = run.stages().collect
    if collected is None or collected.inputs is None:
        raise NotDoneError(no_evidence(run))
    return collected.inputs


def _check_imported(run: Run) -> None:
    """Raises NotDoneError where a file is gone: there is nothing here to make it from."""
    for file in (run.windows, run.features, run.corpus, run.vocabulary):
        if not file.is_file():
            raise NotDoneError(
                f"{file} is missing, and the evidence in {run.path} was imported: import it again"
            )


@dataclass(frozen=True)
class _Prepared:
    """What a run collects from: `coder` is on the device and calibrated, None for its firings."""

    source: Source
    coder: SparseCoder | None
    features: int  # of the coder
    decoder: Tensor | None  # [features, d_in]
    settings: CollectSettings
    control: ControlOf | None


def _prepared(session: Session, settings: CollectSettings) -> _Prepared:
    """Open the source and fit the coder to it. Raises AutointerpError."""
    source = open_source(session)
    if isinstance(source, SparseCache):
        coder, features = None, source.features
    else:
        coder, check = fit(session, source)
        features = coder.features
        for said in (*coder.notes, *check.warnings):
            say(f"collect: {said}")
    known, control = session.coder, None
    if coder is not None and session.config.is_random():
        assert not isinstance(source, SparseCache)
        known = coder = _random_coder(session, source, coder)
        control = ControlOf(kind=session.config.control, of=session.real_coder_identity)
    read_decoder = known.read_decoder if known else None
    decoder = read_decoder().weight.to(session.device) if read_decoder and features > 1 else None
    if decoder is None and session.config.near_miss_windows > 0:
        lacks = (
            "without --sae it is unknown" if known is None else "the SAE has no decoder that tells"
        )
        say(f"collect: no near misses: {lacks} which features are similar")
        settings = without_near_misses(settings)
    if settings.length > source.context_length:
        length = source.context_length
        say(
            f"collect: windows are whole contexts of {length} tokens, shorter than "
            f"{settings.length}"
        )
    return _Prepared(source, coder, features, decoder, settings, control)


def run(session: Session, inputs: str) -> None:
    """Collect the evidence of the selected features."""
    config, files, hashes = session.config, session.run, _hashes(session)
    settings = collect_settings(config)
    prepared = _prepared(session, settings)
    share = shared_out(session, prepared.source, prepared.settings)
    with session.recorded(NAME, inputs, CollectRecord()) as details:
        written = _write(session, prepared, share, fingerprint(**hashes))
        size = files.windows.stat().st_size
        say(
            f"collect: {written.windows:,} windows in {size / 1e6:,.1f} MB, "
            f"{size / 1e3 / len(session.features):,.1f} kB per feature"
        )
        if dropped := _dropped(written):
            say(f"collect: dropped {dropped}")
        for remark in written.remarks:
            say(f"collect: {remark}")
        hook = hook_of(prepared.source) or (session.coder.hook if session.coder else None)
        details.windows, details.shared_between_splits = written.windows, written.shared
        details.repeats_at_least = written.repeats
        details.remarks = written.remarks
        details.corpus = CorpusSummary.model_validate(corpus_summary(files.features))
        details.hashes = CollectedFrom.model_validate(hashes)
        details.control = prepared.control
        details.hook = hook
        details.validate_windows = validate_windows(config)
        details.evidence = fingerprint(inputs=inputs, features=session.features)
    for left in checkpoints(files):
        left.unlink()


@dataclass(frozen=True)
class _Written:
    """How many windows were written, and left out; what is to be said of the source."""

    windows: int
    repeats: int  # at least
    shared: int  # between splits
    remarks: list[str]


def _dropped(written: _Written) -> str:
    """What was not kept, empty if nothing. How many repeats depends on the order of windows."""
    parts = []
    if written.repeats:
        parts.append(f"at least {counted(written.repeats, 'repeated window')}")
    if written.shared:
        parts.append(f"{counted(written.shared, 'window')} whose text occurs in another split")
    return " and ".join(parts)


def _write(session: Session, prepared: _Prepared, share: Share, inputs: str) -> _Written:
    """Collect tile after tile and write the run's files of evidence."""
    files, source = session.run, prepared.source
    place = place_of(session, source)
    vocabulary = source.get_vocabulary()
    tables, counters, sketches, corpus = [], [], [], []
    windows = shared = repeats = 0
    remarks: list[str] = []
    with windows_file(session.coder_name, vocabulary, files.windows) as write_windows:
        for number, tile in enumerate(share.tiles):
            if number > 0 and share.processes == 1 and isinstance(source, SubjectStream):
                source = open_source(session)
            rows = torch.tensor(tile, device=session.device)
            similar = _similar(prepared, rows)
            this = _pass(session, prepared, share, number, rows, similar, inputs)
            collector, remarks = read_pass(this, source, place, share.processes)
            remarks = [*remarks, *_not_finite(session, source, collector)]
            if prepared.settings.split == "document" and not isinstance(source, SubjectStream):
                remarks += source.unit_remarks()
            left_out = collector.choose()
            repeats, shared = repeats + left_out.repeats, shared + left_out.shared
            windows += write_windows(collector)
            found = _directions(prepared.decoder, source, rows, similar)
            tables.append(features_table(collector, session.coder_name, vocabulary, found))
            counters.append(collector.statistics.counters())
            sketches.append(collector.statistics.sketches())
            corpus.append(sampled(collector.corpus, this.encoded))
    with atomic_path(files.vocabulary) as temporary:
        vocabulary.save(temporary)
    write_features(tables, counters, sketches, files.features)
    write_corpus(corpus, vocabulary, files.corpus)
    return _Written(windows, repeats, shared, remarks)


def _not_finite(session: Session, source: Source, collector: Collector) -> list[str]:
    """What to warn of once all is read.

    Raises AutointerpError where most activations are not finite.
    """
    masked = collector.statistics.masked
    contexts = source.contexts_read if isinstance(source, SubjectStream) else source.contexts
    tokens = contexts * source.context_length - masked["padding"]
    name = str(session.config.cache or session.config.subject or "the demo's subject")
    return check_finite(masked["not_finite"], tokens, name)


def _similar(prepared: _Prepared, rows: Tensor) -> Ranked | None:
    decoder = prepared.decoder
    return None if decoder is None else decoder_neighbors(decoder, rows, _SIMILAR)


def _pass(
    session: Session,
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
        run=session.run,
        number=number,
        passes=len(share.tiles),
        coder=coder,
        rows=rows,
        encoded=encoded,
        similar=similar.item if similar else None,
        context_length=prepared.source.context_length,
        settings=prepared.settings,
        batch_contexts=session.config.batch_contexts,
        inputs=fingerprint(
            inputs=inputs,
            settings=prepared.settings.identity(),
            features=rows.tolist(),
            **since_first(CHECKPOINT_VERSION),
        ),
        checkpoint_every_s=CHECKPOINT_EVERY_S,
    )


def _random_coder(
    session: Session, source: DenseCache | SubjectStream, coder: SparseCoder
) -> SparseCoder:
    """A random coder for the real one, made on the first contexts. Raises AutointerpError."""
    x = source.sample(session.config.mask_names()).to(session.device)
    if len(x) == 0:
        raise ConfigurationError(
            "all tokens of the first contexts are masked: the densities of random directions "
            "cannot be matched to the SAE's"
        )
    made = randomized(coder, x, session.config.seed)
    real, random = (len(c.encode(x).token) / len(x) for c in (coder, made))
    say(
        f"collect: random directions replace the SAE's features; mean L0 on the first {len(x):,} "
        f"tokens: {random:.3g} (the SAE's: {real:.3g})"
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


STAGE = Stage(NAME, inputs=inputs, is_done=is_done, already=already, run=run, check=check)
