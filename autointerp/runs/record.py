"""A run's `run.json`: what it may say, read and written here alone.

It is data of whoever made the run, which may be a stranger: its shape is checked before anything is
made of it. Its settings are for looking at. They are not a `RunConfig`, so nothing that reads
files, runs code, sends requests or spends money can be given them: what does so takes the settings
of the person at this command line alone.

What a version does not know is kept as it stands. Records of version 1 name no version.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from autointerp.config.loading import problem_of, validated
from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError, InputError
from autointerp.plain_text import counted
from autointerp.secrets import masked
from autointerp.storage.damage import damaged
from autointerp.storage.files import atomic_path

VERSION = 2
_DEEPEST = 30  # levels of lists and objects
# Numbers and choices that say how labels are made of evidence: a new label is made as the run's
# were. Every other setting, and every one to come, is the person's own.
TAKEN_OVER = (
    *("seed", "top_windows", "sample_windows", "negative_windows", "near_miss_windows"),
    *("label_top", "label_quantiles", "label_activations", "label_contrast"),
    *("label_output_tokens", "label_meanings", "candidates"),
)


class RecordedSettings:
    """The settings that a run was made with, by name."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self._values = values
        self._path = path

    def shown(self) -> dict[str, Any]:
        """All of them as they stand there, also those that this version does not know."""
        return dict(self._values)

    def text(self, name: str) -> str:
        """One that is a text, to be shown; empty where it is not."""
        value = self._values.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """One that is a whole number, its default where there is none. Raises AutointerpError."""
        return int(self._allowed(name))

    def with_own(self, own: RunConfig) -> RunConfig:
        """A person's own settings, with the run's in the place of those that they did not give.

        Of the run's only `TAKEN_OVER` are. Raises AutointerpError where they are not allowed.
        """
        taken = {n: self._allowed(n) for n in TAKEN_OVER if n not in own.model_fields_set}
        try:
            return validated(own.model_dump(exclude_unset=True) | taken)
        except AutointerpError as error:
            raise InputError(f"{self._path}: {error}") from None

    def _allowed(self, name: str) -> Any:
        """The value as RunConfig would have it."""
        field = RunConfig.model_fields[name]
        if name not in self._values:
            return field.default
        annotated: Any = Annotated
        adapter: TypeAdapter[Any] = TypeAdapter(annotated[field.annotation, field])
        try:
            return adapter.validate_python(self._values[name])
        except ValidationError as error:
            raise InputError(f"{self._path}: setting {name}: {problem_of(error)[1]}") from None


class _Part(BaseModel):
    """Strict, since what was checked is used as it stands; what is not known here is let be."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


_Count = Annotated[int, Field(ge=0, le=2**53)]
_Line = Annotated[str, StringConstraints(max_length=10_000)]


class _Quantiles(_Part):
    p5: _Count
    median: _Count
    p95: _Count


class CorpusSummary(_Part):
    """Figures of the whole corpus."""

    tokens: _Count
    mean_l0: float
    features: _Count
    dead: _Count
    dense: _Count = 0
    masked: dict[str, _Count]
    l0_quantiles: _Quantiles | None = None


class CollectedFrom(_Part):
    """Identities of the activations and of the coder."""

    cache: _Line | None = None
    coder: _Line | None = None


class ControlOf(_Part):
    """That a run is the control of another: of the coder whose identity is `of`."""

    kind: _Line | None = None
    of: _Line | None = None


class ImportedFrom(_Part):
    source: _Line = Field(alias="from")
    left_out: dict[str, _Count] = {}


class ImportedFile(_Part):
    name: _Line
    bytes: _Count = 0
    sha256: _Line = ""


class ImportedRecords(_Part):
    """Where evidence comes from that was not collected here. `files`: the first of them.

    `sha256` is of all files' hashes; `silent` counts features that have non-activating windows to
    be scored on, `silent_elsewhere` those whose are of texts in which the feature fires as well.
    """

    format: _Line = ""
    files: list[ImportedFile] = []
    n_files: _Count = 0
    sha256: _Line = ""
    records: _Count = 0
    skipped: _Count = 0
    features: _Count = 0
    only_split: _Line | None = None
    silent: _Count = 0
    silent_elsewhere: _Count = 0
    complete: bool = False

    def line(self) -> str:
        alone = self.files[0].name if self.n_files == 1 and self.files else None
        what = "latents" if self.complete else counted(self.records, "record")
        source = alone or counted(self.n_files, "file")
        return f"{what} of {counted(self.features, 'feature')} from {source}"


class StageRecord(_Part):
    """What every stage says. `inputs`: a hash of all that its result depends on."""

    inputs: _Line | None = None
    finished_at: _Line = ""
    seconds: float = 0.0


class CaptureRecord(StageRecord):
    tokens: _Count = 0
    contexts: _Count = 0


class CollectRecord(StageRecord):
    """`evidence` changes when the evidence does."""

    evidence: _Line | None = None
    windows: _Count = 0
    shared_between_splits: _Count = 0
    repeats_at_least: _Count = 0
    remarks: list[_Line] = []
    corpus: CorpusSummary | None = None
    hashes: CollectedFrom = CollectedFrom()
    control: ControlOf | None = None
    hook: _Line | None = None
    validate_windows: _Count = 0
    imported: ImportedRecords | None = None


class SavedRequests(_Part):
    """What it saved not to ask about so many features."""

    features: _Count = 0
    requests: _Count = 0
    tokens: _Count | None = None
    cost_usd: float | None = None


class LabelRecord(StageRecord):
    """`unchosen`: features that lack a candidate, or a choice between them, which may come yet."""

    evidence: _Line | None = None
    labeler: _Line | None = None
    outcomes: dict[str, _Count] = {}
    prompt_hash: _Line | None = None
    asked: dict[str, Any] = {}
    asked_for_twins: dict[str, Any] = {}
    asked_for_candidates: dict[str, Any] = {}
    asked_again: dict[str, dict[str, _Count]] = {}
    unchosen: _Count = 0
    saved_by_rules: SavedRequests | None = None
    saved_by_twins: SavedRequests | None = None
    imported: ImportedFrom | None = None


class ExperimentRecord(_Part):
    """`missing`: metric → why it could not be measured. `asked`: by what was asked for."""

    missing: dict[str, _Line] = {}
    asked: dict[str, dict[str, Any]] = {}


class ScoreRecord(StageRecord):
    """`unanswered`: judgments that are missing and may come yet, why, and what they cost so far.

    `replies`: scorer, whose labels, kind of reply → how many. `experiments`: by scorer.
    """

    evidence: _Line | None = None
    judge: _Line | None = None
    local_judges: dict[str, _Line] = {}
    prompt_hashes: dict[str, _Line] = {}
    scored: _Count = 0
    asked: dict[str, Any] = {}
    replies: dict[str, dict[str, dict[str, _Count]]] = {}
    experiments: dict[str, ExperimentRecord] = {}
    unanswered: _Count = 0
    unanswered_for: _Line | None = None
    unanswered_usd: float = 0.0


class StageRecords(_Part):
    """The stages that are done."""

    capture: CaptureRecord | None = None
    collect: CollectRecord | None = None
    label: LabelRecord | None = None
    score: ScoreRecord | None = None

    def done(self) -> Iterator[tuple[str, StageRecord]]:
        """Name and record of each, in the order of a run."""
        for name in type(self).model_fields:
            record = getattr(self, name)
            if record is not None:
                yield name, record

    def without(self, *names: str) -> "StageRecords":
        return StageRecords.model_validate(
            self.model_dump(exclude_unset=True, by_alias=True, exclude=set(names))
        )


# A task and a hash make the name of a file.
_Task = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,60}$")]
_Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12,128}$")]


class RunRecord(_Part):
    version: _Count = 1
    versions: dict[str, Any] = {}
    config: dict[str, Any] = {}
    stages: StageRecords = StageRecords()
    prompts: dict[_Task, _Hash] = {}

    def with_entries(self, **entries: Any) -> "RunRecord":
        return RunRecord.model_validate(
            self.model_dump(exclude_unset=True, by_alias=True) | entries
        )


def write_record(path: Path, record: RunRecord) -> None:
    """Write it in the present version."""
    record = record.model_copy(update={"version": VERSION})
    said = json.dumps(record.model_dump(exclude_unset=True, by_alias=True), indent=2, default=str)
    with atomic_path(path) as temporary:
        temporary.write_text(masked(said) + "\n")


def read_record(path: Path) -> RunRecord:
    """What the file says, its shape checked. Raises AutointerpError."""
    try:
        text = path.read_text(encoding="utf-8")
        loaded = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    if not isinstance(loaded, dict):
        raise damaged(path, "it is not a JSON object")
    if _is_deeper(loaded, _DEEPEST):
        raise damaged(path, f"it is nested more than {_DEEPEST} levels deep")
    try:
        record = RunRecord.model_validate(loaded)
    except ValidationError as error:
        where, what = problem_of(error)
        raise damaged(path, f"it is not the record of a run: {where}: {what}") from None
    if record.version > VERSION:
        raise InputError(
            f"{path} was written by a newer autointerp (version {record.version}, this one reads "
            f"up to {VERSION}): upgrade autointerp to read it"
        )
    return record


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a number")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    members = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(_is_deeper(member, levels - 1) for member in members)
