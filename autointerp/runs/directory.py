"""The run directory: where its files are, who may write to it, which stages are done."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autointerp.errors import AutointerpError, InputError, NotDoneError, RunInUseError
from autointerp.plain_text import line_for_person
from autointerp.runs.record import (
    RecordedSettings,
    RunRecord,
    StageRecord,
    StageRecords,
    read_record,
    write_record,
)
from autointerp.storage.files import unwritable, writing


class Run:
    """One directory under outputs/ with everything about one job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / "run.json"
        self.windows = path / "windows.parquet"
        self.features = path / "features.parquet"
        self.corpus = path / "corpus.parquet"
        self.vocabulary = path / "vocabulary.parquet"
        self.drafts = path / "drafts.parquet"
        self.labels = path / "labels.parquet"
        self.predictions = path / "predictions.parquet"
        self.scores = path / "scores.parquet"
        self.edits = path / "edits.parquet"
        self.journal = path / "journal.sqlite"
        self.log = path / "run.log"
        self.trial = path / "doctor.json"
        self.lock = path / ".lock"
        self.prompts = path / "prompts"

    def folder_of(self, scorer: str) -> Path:
        """Where a scorer keeps files of its own; there is none before it has any."""
        return self.path / scorer

    def record(self) -> RunRecord:
        """What `run.json` says, its shape checked; empty for a new run. Raises AutointerpError."""
        return read_record(self.manifest) if self.manifest.is_file() else RunRecord()

    def settings(self) -> RecordedSettings:
        """The settings that the run was made with: to be looked at."""
        return RecordedSettings(self.record().config, self.manifest)

    def update(self, **entries: Any) -> None:
        """Set top-level entries of `run.json`."""
        write_record(self.manifest, self.record().with_entries(**entries))

    def stages(self) -> StageRecords:
        """What is recorded of the stages that are done. Raises AutointerpError."""
        return self.record().stages

    def has_results(self) -> bool:
        """Whether a stage was finished; a damaged record may hide one."""
        try:
            return any(self.stages().done()) or self.labels.is_file()
        except AutointerpError:
            return True

    def forget_stages(self, *names: str) -> None:
        """Take stages for not done."""
        self.update(stages=self.stages().without(*names))

    def finish_stage(self, name: str, inputs: str, seconds: float, details: StageRecord) -> None:
        """Record the stage as done from these inputs."""
        details.inputs = inputs
        details.finished_at = datetime.now(UTC).isoformat(timespec="seconds")
        details.seconds = round(seconds, 2)
        self.update(stages=self.stages().model_copy(update={name: details}))
        self.note(f"{name} finished in {seconds:.1f} s")

    def note(self, line: str) -> None:
        """Append a line to `run.log`."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with writing(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {line_for_person(line)}\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process alone.

        Raises OutputError where the directory cannot be written, RunInUseError where another
        process holds it. The lock goes with the process, however it dies.
        """
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(self.path, error) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
                raise RunInUseError(
                    f"another autointerp (process {holder or 'unknown'}) is working on "
                    f"{self.path}: wait for it, or pass another --out"
                ) from None
            if not (self.lock.exists() and os.path.samestat(os.fstat(handle), self.lock.stat())):
                raise RunInUseError(f"{self.path} was removed meanwhile: rerun the same command")
            with writing(self.path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
                for leftover in self.path.glob(".*.tmp"):
                    if leftover.is_dir():
                        shutil.rmtree(leftover)
                    else:
                        leftover.unlink()
            try:
                yield
            finally:
                if is_new and list(self.path.iterdir()) == [self.lock]:
                    # Nothing came of it, such as for a wrong path: no run is left behind.
                    self.lock.unlink()
                    self.path.rmdir()
        finally:
            os.close(handle)


def find_run(path: str | None) -> Run:
    """The run at `path`, or the one with results under outputs/ that was written last."""
    if path is not None:
        if not (Path(path) / "run.json").is_file():
            raise InputError(f"no run at {path}: it has no run.json")
        return Run(Path(path))
    found = sorted(Path("outputs").glob("*/run.json"), key=lambda p: p.stat().st_mtime)
    for manifest in reversed(found):
        if Run(manifest.parent).has_results():
            return Run(manifest.parent)
    if found:
        raise NotDoneError(
            f"no run in outputs/ has any results yet (the latest is {found[-1].parent})"
        )
    raise NotDoneError("no run in outputs/: start one with `autointerp run`, or name a run")
