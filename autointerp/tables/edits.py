"""Edits: what people, and models asked from the page, say of a run's features.

They are kept beside the run's own files in `edits.parquet`, one row an edit, and change none of
them: a row is only ever added. A run may be running meanwhile, so the file has a lock of its own.
"""

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.errors import AutointerpError, InputError, NotDoneError
from autointerp.plain_text import tidy
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.secrets import masked
from autointerp.storage.columns import checked, column, conform, schema_of
from autointerp.storage.files import atomic_path, unwritable
from autointerp.storage.parquet_files import open_parquet, write_parquet
from autointerp.tables.collisions import shares_label
from autointerp.tables.schema import EDITED, score_columns

Kind = Literal["label", "model_label", "vote", "note"]
_MAX_LENGTHS = {"author": 100, "label": 1000, "reason": 5000, "text": 20_000}  # characters
_VOTES = (-1, 0, 1)
_LEFTOVER = "new"
# What is known of a label and does not hold for another one in its place.
_OF_THE_LABEL = (
    *("label_of", "polysemantic", "meanings", "candidates", "prompt_hash", "request", "error"),
)

SCHEMA = schema_of(
    [
        column("feature", pa.int32(), "the feature's index in the SAE"),
        column("kind", pa.string(), "label (by a person), model_label, vote or note"),
        column("author", pa.string(), "the person's name, or the model's"),
        column("time", pa.timestamp("us", "UTC"), "when it was made"),
        column("label", pa.string(), "the new label"),
        column("reason", pa.string(), "the reason for it"),
        column("confidence", pa.float64(), "0 to 1, as its author states it"),
        column("vote", pa.int32(), "1 for the label, -1 against it, 0 takes the vote back"),
        column("text", pa.string(), "the note's text"),
        column("prompt_tokens", pa.int64(), "tokens sent for it"),
        column("completion_tokens", pa.int64(), "tokens received for it"),
        column("cost_usd", pa.float64(), "what it cost, in dollars"),
    ]
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One thing said of a feature; what its kind does not need is None.

    A label is by a person, a model_label was asked for by one. A vote of 0 takes the author's vote
    back; `text` is the note. `time` is in UTC.
    """

    feature: int
    kind: Kind
    author: str
    time: datetime
    label: str | None = None
    reason: str | None = None
    confidence: float | None = None
    vote: int | None = None
    text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None

    def is_label(self) -> bool:
        return self.kind in ("label", "model_label")


def add_edit(run: Run, edit: Edit) -> None:
    """Add an edit to the run's: wholly, or not at all where the process dies meanwhile.

    Raises InputError where the edit says nothing that can be kept, or of no feature of the run.
    """
    _check(edit)
    if not _has_feature(run, edit.feature):
        raise InputError(f"feature {edit.feature} is not in {run.path}")
    row = {name: _storable(value) for name, value in asdict(edit).items()}
    with _locked(run):
        rows = pa.Table.from_pylist([row], schema=SCHEMA)
        table = pa.concat_tables([_read(run).select(SCHEMA.names).cast(SCHEMA), rows])
        with atomic_path(run.edits, _LEFTOVER) as temporary:
            write_parquet(table, temporary)


def read_edits(run: Run, feature: int | None = None) -> list[Edit]:
    """The edits of the run, or of one of its features, oldest first; [] where there are none.

    Raises AutointerpError where the file is damaged, or a row of it is not an edit.
    """
    table = _read(run).select(SCHEMA.names)
    if feature is not None:
        table = table.filter(pc.field("feature") == feature)
    try:
        rows = [{**row, "time": row["time"].astimezone(UTC)} for row in table.to_pylist()]
    except (ValueError, OverflowError) as error:
        raise InputError(f"{run.edits} cannot be read: {error}") from None
    edits = [Edit(**row) for row in rows]
    for edit in edits:
        try:
            _check(edit)
        except AutointerpError as error:
            raise InputError(f"{run.edits}: {error}") from None
    return sorted(edits, key=lambda edit: edit.time)


def apply_edits(table: pa.Table, run: Run) -> pa.Table:
    """A run's label table with its edits: the newest label of a feature replaces the run's.

    The label's reason, confidence and labeler are then the edit's, and what was known of the run's
    label is null, its scores above all: they are another label's. Only where the edit says just
    what the run's label says do they stay. Tokens and cost of labels asked for are added.
    """
    edits: dict[int, list[Edit]] = defaultdict(list)
    for edit in read_edits(run):
        edits[edit.feature].append(edit)
    n = len(table)
    plain: dict[str, pa.Array] = {"edited": pa.repeat(False, n), "notes": _empty_lists(n)}
    for field in EDITED:
        table = table.append_column(field, plain.get(field.name, pa.nulls(n, field.type)))
    places = np.flatnonzero(np.isin(table["feature"].to_numpy(), list(edits)))
    if not len(places):
        return table
    rows = [edited_row(row, edits[row["feature"]]) for row in table.take(places).to_pylist()]
    order = np.arange(n)
    order[places] = n + np.arange(len(rows))
    table = pa.concat_tables([table, pa.Table.from_pylist(rows, schema=table.schema)]).take(order)
    place = table.schema.get_field_index("shares_label")
    shared = shares_label(table["label"].to_pylist())
    return table.set_column(place, table.schema.field(place), shared)


def _empty_lists(n: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], pa.string()))


@cache
def _of_the_label() -> tuple[str, ...]:
    return (*_OF_THE_LABEL, *(field.name for field in score_columns(SCORERS)))


def edited_row(row: dict[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """A row of the label table after the edits of its feature, which come oldest first."""
    labels = [edit for edit in edits if edit.is_label()]
    if labels:
        newest, own = labels[-1], row["label"]
        if newest.label != own:
            row |= {name: None for name in _of_the_label() if name in row} | {"flags": []}
        row |= {name: getattr(newest, name) for name in ("label", "reason", "confidence")}
        row |= {"status": "labeled", "labeler": newest.author}
        row |= {"edited": True, "original_label": own}
    # Votes on an earlier label say nothing of the one that stands.
    since = labels[-1].time if labels else datetime.min.replace(tzinfo=UTC)
    votes = {e.author: e.vote for e in edits if e.kind == "vote" and e.time >= since}
    standing = [vote for vote in votes.values() if vote]
    row["votes"] = sum(standing) if standing else None
    row["notes"] = [edit.text for edit in edits if edit.kind == "note"]
    for edit in edits:
        if edit.kind == "model_label":
            row["prompt_tokens"] = (row["prompt_tokens"] or 0) + (edit.prompt_tokens or 0)
            row["completion_tokens"] = (row["completion_tokens"] or 0) + (
                edit.completion_tokens or 0
            )
            known = None not in (row["cost_usd"], edit.cost_usd)
            row["cost_usd"] = row["cost_usd"] + edit.cost_usd if known else None
    return row


def _read(run: Run) -> pa.Table:
    if not run.edits.is_file():
        return SCHEMA.empty_table()
    return conform(checked(open_parquet(run.edits), SCHEMA, run.edits).read(), SCHEMA)


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    """Hold the run's edits for this writer alone, waiting for others; not the run itself."""
    try:
        handle = os.open(run.path / ".edits.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(run.edits, error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for leftover in run.path.glob(f".{run.edits.name}.*.{_LEFTOVER}"):
            leftover.unlink()
        yield
    finally:
        os.close(handle)


def _check(edit: Edit) -> None:
    """Raises AutointerpError where the edit cannot be kept."""
    if edit.kind not in get_args(Kind):
        raise InputError(
            f"the kind of an edit must be {', '.join(get_args(Kind))}, not {edit.kind!r}"
        )
    needed = {"vote": "vote", "note": "text"}.get(edit.kind, "label")
    texts = {name: getattr(edit, name) for name in _MAX_LENGTHS}
    for name, text in texts.items():
        if name in ("author", needed) and not (isinstance(text, str) and tidy(text)):
            raise InputError(f"the {name} of an edit must not be empty")
        if text is not None and len(text) > _MAX_LENGTHS[name]:
            raise InputError(
                f"{name} has {len(text):,} characters; the limit is {_MAX_LENGTHS[name]:,}"
            )
    if edit.kind == "vote" and (edit.vote not in _VOTES or isinstance(edit.vote, bool)):
        raise InputError(f"a vote must be 1, -1, or 0 to take it back, not {edit.vote!r}")
    if edit.confidence is not None and not 0 <= edit.confidence <= 1:
        raise InputError(f"a confidence must be between 0 and 1, not {edit.confidence!r}")
    if edit.time.tzinfo is None:
        raise InputError(f"the time {edit.time} has no time zone: give it in UTC")


def _has_feature(run: Run, feature: int) -> bool:
    files = [path for path in (run.labels, run.features) if path.is_file()]
    if not files:
        raise NotDoneError(f"{run.path} has no features yet: run `autointerp collect` first")
    return any(
        bool((open_parquet(path).read(columns=["feature"])["feature"].to_numpy() == feature).any())
        for path in files
    )


def _storable(value: Any) -> Any:
    """Text as a file may hold it: lone surrogates, which only JSON can spell, are replaced, and
    secrets are masked."""
    if not isinstance(value, str):
        return value
    return masked(value.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
