"""import activations: records that somebody has already → a run's evidence, as if collected here.

`label` and `score` go on from it. What records do not tell stays missing: how dense a feature is in
a corpus that nobody has here, and windows in which it does not fire, where none are among them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from autointerp.activations.formats import delphi_latents
from autointerp.activations.record_files import files_of_records
from autointerp.activations.record_format import RECORD_FORMATS
from autointerp.activations.record_reading import RecordReader, TokenMarks
from autointerp.activations.subject import load_tokenizer
from autointerp.config.settings import RunConfig, preferred
from autointerp.errors import ConfigurationError, InputError
from autointerp.evidence.collector import CollectSettings
from autointerp.evidence.corpus import write_no_corpus
from autointerp.evidence.record_spool import RecordSpool
from autointerp.evidence.record_windows import SPLITS, RecordWindows
from autointerp.evidence.selection import SelectionSpec
from autointerp.evidence.store import (
    collected_features,
    features_table,
    windows_file,
    write_record_features,
)
from autointerp.identity import fingerprint
from autointerp.plain_text import counted, tidy
from autointerp.progress import Tracker, say, track
from autointerp.resources.session import Session, open_session
from autointerp.runs.directory import Run
from autointerp.runs.record import CollectRecord, ImportedFile, ImportedRecords
from autointerp.stages.collect import collect_stage
from autointerp.stages.collect.collect_stage import collect_settings, without_near_misses
from autointerp.stages.stage import do
from autointerp.storage.files import atomic_path, writing
from autointerp.tensors.hashing import file_sha256
from autointerp.vocabulary import Vocabulary, vocabulary_of

DELPHI = "delphi"
_FEATURES_AT_ONCE = 256
_RECORDED_FILES = 100
_NOTED = 10_000  # records between two notes of how many were read
_MAX_NAME = 100


@dataclass(frozen=True)
class ImportOptions:
    """`format`: None where each file's content tells. `tokenizer`: whose token ids the files have.
    `token_marks`: what stands in the tokens' texts for spaces and bytes. `allow_negative`: negative
    activations count as inactive. `name`: the SAE's."""

    format: str | None = None
    tokenizer: str | None = None
    token_marks: TokenMarks = "none"
    all_for_labeling: bool = False
    allow_negative: bool = False
    name: str | None = None


def import_activations(paths: Sequence[Path], config: RunConfig, options: ImportOptions) -> Run:
    """Make a run of the records in files or folders. Raises AutointerpError; then there is none."""
    if not paths:
        raise ConfigurationError("no file or folder of activation records was named")
    config = _with_out(config, paths, options)
    _check_sources(config)
    latents = [path for path in paths if _is_latents(path, options.format)]
    if latents and len(paths) > 1:
        raise InputError(f"{latents[0]} is a folder of Delphi's: import it alone")
    run = Run(config.run_path())
    with run.locked():
        if run.has_results() or run.windows.exists():
            raise InputError(f"{run.path} already has evidence: import into another --out")
        if latents:
            _import_latents(latents[0], config, options)
        else:
            _import_records(paths, config, options, run)
    return run


def _with_out(config: RunConfig, paths: Sequence[Path], options: ImportOptions) -> RunConfig:
    if config.out is not None:
        return config
    name = (options.name or _name_of(paths)).replace("/", "-")
    return config.model_copy(update={"out": str(Path("outputs") / name)})


def _name_of(paths: Sequence[Path]) -> str:
    return paths[0].resolve().name.partition(".")[0] or "imported"


def _check_sources(config: RunConfig) -> None:
    for name in ("coder", "cache", "subject", "text", "token_ids"):
        if getattr(config, name) is not None:
            raise ConfigurationError(f"records are imported as they are: drop --{preferred(name)}")


def _is_latents(path: Path, format_name: str | None) -> bool:
    if format_name not in (None, DELPHI):
        return False
    found = delphi_latents.matches(path)
    if format_name == DELPHI and not found:
        raise InputError(
            f"{path} is not a hook point's folder of Delphi's latents: it has no files named "
            "FIRST_LAST.safetensors with locations and activations"
        )
    return found


def _import_latents(path: Path, config: RunConfig, options: ImportOptions) -> None:
    """Delphi evaluates all features on the whole text: they are collected like any cache of it."""
    if options.all_for_labeling:
        raise ConfigurationError(
            "Delphi's latents are split like any corpus: drop --all-for-labeling"
        )
    session = open_session(
        config.model_copy(update={"cache": str(path), "subject": options.tokenizer})
    )
    stage, run = collect_stage.STAGE, session.run
    stage.check(session)
    do(stage, session)
    files, digest = _hashed(sorted(p for p in path.glob("*.safetensors")))
    record = run.stages().collect
    assert record is not None
    record.imported = ImportedRecords(
        format=DELPHI,
        files=files[:_RECORDED_FILES],
        n_files=len(files),
        sha256=digest,
        features=len(session.features),
        complete=True,
    )
    run.update(stages=run.stages().model_copy(update={collect_stage.NAME: record}))


def _import_records(
    paths: Sequence[Path], config: RunConfig, options: ImportOptions, run: Run
) -> None:
    every = dict.fromkeys(file.resolve() for path in paths for file in files_of_records(path))
    files, digest = _hashed(every)
    reader = RecordReader(
        format=RECORD_FORMATS.find(options.format) if options.format else None,
        known=_vocabulary_of(options.tokenizer),
        skip_bad=config.skip_bad_rows,
        allow_negative=options.allow_negative,
    )
    settings = _settings(config, options)
    with (
        writing(run.path),
        TemporaryDirectory(dir=run.path, prefix=".records-", suffix=".tmp") as folder,
        RecordSpool(Path(folder)) as spool,
    ):
        with track("import: reading", len(every), "files") as progress:
            _read(reader, every, spool, progress)
        vocabulary = reader.vocabulary(options.token_marks)
        source = next(iter(reader.sources), "")
        name = tidy(options.name or source or _name_of(paths))[:_MAX_NAME]
        session = Session(config, run, None, [], imported_as=name)
        inputs = fingerprint(
            files=digest,
            settings=settings.identity(),
            options=[options.format, options.tokenizer, options.token_marks, name],
            allow_negative=options.allow_negative,
        )
        with session.recorded(collect_stage.NAME, inputs, CollectRecord()) as details:
            only = "label" if options.all_for_labeling else None
            written = _write(run, spool, settings, name, vocabulary, reader.densities, only)
            details.windows, details.shared_between_splits = written.windows, written.shared
            details.repeats_at_least = written.repeats
            details.validate_windows = collect_stage.validate_windows(config)
            details.imported = ImportedRecords(
                format=", ".join(reader.formats),
                files=files[:_RECORDED_FILES],
                n_files=len(files),
                sha256=digest,
                records=written.records,
                skipped=reader.bad,
                features=written.features,
                only_split=only,
                silent=written.silent,
                silent_elsewhere=written.silent_elsewhere,
            )
            details.remarks = [*reader.remarks(options.token_marks), *_missing(details.imported)]
            features = sorted(collected_features(run.features))
            details.evidence = fingerprint(inputs=inputs, features=features)
    say(f"import: {details.imported.line()}; {written.windows:,} windows in {run.windows}")
    if repeated := reader.read - reader.bad - written.records:
        say(f"import: dropped {counted(repeated, 'record')} of a feature that it has already")
    if written.shared:
        shared = counted(written.shared, "window")
        say(f"import: dropped {shared} whose text occurs in another split")
    for remark in details.remarks:
        say(f"import: {remark}")


def _missing(imported: ImportedRecords) -> list[str]:
    """What cannot be known from the records, or is of another kind, a line each."""
    said = [
        "scores of the whole corpus will be missing: records do not tell in what share of its "
        "windows a feature fires"
    ]
    if imported.only_split is not None:
        return ["all records are for labeling: there are none to score labels on"]
    if none := imported.features - imported.silent:
        said.append(
            f"no non-activating windows of {counted(none, 'feature')}: scores that need them will "
            "be missing"
        )
    if imported.silent_elsewhere:
        said.append(
            f"non-activating windows of {counted(imported.silent_elsewhere, 'feature')} are parts "
            "of records in which they fire elsewhere: harder to tell from activating ones than "
            "text drawn at random"
        )
    return said


def _hashed(paths: Iterable[Path]) -> tuple[list[ImportedFile], str]:
    """The files by hash, and a hash of all of them in their order."""
    files = [
        ImportedFile(name=p.name, bytes=p.stat().st_size, sha256=file_sha256(p)) for p in paths
    ]
    return files, sha256("".join(file.sha256 for file in files).encode()).hexdigest()


def _vocabulary_of(tokenizer: str | None) -> Vocabulary | None:
    return None if tokenizer is None else vocabulary_of(load_tokenizer(tokenizer))


def _settings(config: RunConfig, options: ImportOptions) -> CollectSettings:
    """As for collecting; scoring has a feature's own windows in the place of the corpus's."""
    found = without_near_misses(collect_settings(config))
    selections = (
        *found.selections,
        SelectionSpec("negative", "score", 2 * config.score_windows),
    )
    if options.all_for_labeling:
        selections = tuple(s for s in selections if s.split == "label")
    return replace(found, selections=selections, masks=(), corpus=0)


def _read(
    reader: RecordReader, files: Iterable[Path], spool: RecordSpool, progress: Tracker
) -> None:
    def counted_files() -> Iterable[Path]:
        for file in files:
            yield file
            progress.advance()

    for record in reader.records(counted_files()):
        if len(spool) % _NOTED == 0:
            progress.note(counted(len(spool), "record"))
        spool.add(
            record.feature,
            record.token_ids,
            record.activations,
            record.text_key,
            record.split_key,
            -1 if record.split is None else SPLITS.index(record.split),
        )
    progress.note(counted(len(spool), "record"))


@dataclass
class _Written:
    features: int = 0
    records: int = 0
    windows: int = 0
    repeats: int = 0
    shared: int = 0
    silent: int = 0
    silent_elsewhere: int = 0


def _write(
    run: Run,
    spool: RecordSpool,
    settings: CollectSettings,
    name: str,
    vocabulary: Vocabulary,
    densities: dict[int, float],
    only: str | None,
) -> _Written:
    """Write the run's files of evidence, a few features after another."""
    features, numbers, ends = spool.by_feature()
    written, tables = _Written(features=len(features)), []
    with (
        windows_file(name, vocabulary, run.windows) as write_windows,
        track("import: windows", len(features), "features") as progress,
    ):
        for begin in range(0, len(features), _FEATURES_AT_ONCE):
            end = min(begin + _FEATURES_AT_ONCE, len(features))
            rows = torch.from_numpy(features[begin:end])
            kept = RecordWindows(rows, settings, "label" if only else None)
            part = numbers[ends[begin] : ends[end]]
            for batch in spool.batches(part, settings.length):
                kept.add(batch)
            kept.settle()
            left_out = kept.choose()
            written.records += kept.records
            written.repeats += left_out.repeats
            written.shared += left_out.shared
            written.silent += int(kept.has_silence().sum())
            written.silent_elsewhere += int(kept.silent_elsewhere().sum())
            written.windows += write_windows(kept)
            tables.append(features_table(kept, name, vocabulary))
            progress.advance(end - begin)
    with atomic_path(run.vocabulary) as temporary:
        vocabulary.save(temporary)
    write_record_features(tables, densities, written.records, only, run.features)
    write_no_corpus(run.corpus)
    return written
