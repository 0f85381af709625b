"""A run's files from a stranger: whatever is in them, reading them is one line or works."""

import contextlib
import io
import json
import shutil
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import autointerp
from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.report.comparison import print_comparison
from autointerp.report.html_report import write_report
from autointerp.report.scores import print_scores
from autointerp.report.terminal import print_labels, show_feature, summary
from autointerp.runs.directory import Run
from autointerp.tables.edits import Edit, add_edit, read_edits

FEATURE = 4
FEW = settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory) -> Run:
    """A finished run with edits."""
    path = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(finished.path, path)
    run, now = Run(path), datetime.now(UTC)
    add_edit(run, Edit(FEATURE, "label", "Ada", now, label="mine", confidence=0.5))
    add_edit(run, Edit(FEATURE, "vote", "Bob", now, vote=1))
    add_edit(run, Edit(1, "note", "Ada", now, text="a note"))
    return run


def ways_to_read(run: Run, other: Run) -> list[Callable[[], object]]:
    """Every way to look at a run."""
    from autointerp.serve.reading import _info
    from autointerp.serve.served import Served
    from autointerp.serve.shapes import answer

    console = Console(file=io.StringIO(), width=80)
    out = run.path / "out"

    def served() -> None:
        found = Served(run, RunConfig())
        for make in (
            lambda: _info(found),
            found.overview.now,
            lambda: found.labels.now().select(search="a", filters=["feature:ge:0"]),
            lambda: found.pages.now().page(FEATURE),
        ):
            with contextlib.suppress(AutointerpError):
                answer(make())

    return [
        served,
        lambda: autointerp.load_labels(run.path),
        lambda: autointerp.load_labels(run.path, edits=True),
        lambda: autointerp.load_scores(run.path),
        lambda: autointerp.load_windows(run.path, FEATURE),
        lambda: autointerp.load_strata(run.path),
        lambda: autointerp.label_differences([run.path, other.path]),
        lambda: read_edits(run),
        lambda: write_report(run, None, out / "report.html"),
        lambda: print_labels(run, "detection", 20, "a", console),
        lambda: show_feature(run, FEATURE, console),
        lambda: print_scores(run, console),
        lambda: console.print(summary(run)),
        lambda: print_comparison(run, other, None, 3, console),
    ]


def read_everything(run: Run, other: Run) -> int:
    """How many ways to look at the run work. Fails on anything but an AutointerpError."""
    worked, said = 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for way in ways_to_read(run, other):
            try:
                way()
                worked += 1
            except AutointerpError as error:
                said.append(str(error))
    assert not [line for line in said if "\n" in line]
    return worked


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -1, 2**63, 1e308, -0.0, "", "\ud800", "x" * 20_000, [], {}, [[]]]),
    st.text(max_size=20),
)


def places(value: Any) -> list[tuple[Any, ...]]:
    """The paths to everything within a value."""
    found: list[tuple[Any, ...]] = []
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in members:
        found.append((key,))
        if isinstance(member, dict | list):
            found += [(key, *rest) for rest in places(member)]
    return found


def spoiled_copy(whole: Run, tmp_path: Any) -> Run:
    path = tmp_path / "spoiled"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole.path, path)
    return Run(path)


def test_a_run_as_it_should_be_is_read_in_every_way(whole, finished, tmp_path):
    assert read_everything(spoiled_copy(whole, tmp_path), finished) == 14


@FEW
@given(st.data())
def test_run_json(whole, finished, tmp_path, data):
    record = json.loads(whole.manifest.read_text())
    for path in data.draw(st.lists(st.sampled_from(places(record)), min_size=1, max_size=3)):
        node: Any = record
        try:
            for key in path[:-1]:
                node = node[key]
            if data.draw(st.booleans()):
                node[path[-1]] = data.draw(leaves)
            else:
                del node[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # spoiled already
    run = spoiled_copy(whole, tmp_path)
    run.manifest.write_text(json.dumps(record))
    read_everything(run, finished)


kinds = st.sampled_from(
    [
        pa.string(),
        pa.float64(),
        pa.int64(),
        pa.bool_(),
        pa.null(),
        pa.binary(),
        pa.list_(pa.string()),
        pa.struct([("a", pa.int8())]),
        pa.timestamp("s"),
    ]
)


def other_column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowException:
        return pa.nulls(len(column), kind)


def spoil_table(table: pa.Table, data: st.DataObject) -> pa.Table:
    place = data.draw(st.integers(0, table.num_columns - 1))
    field = table.schema.field(place)
    what = data.draw(st.sampled_from(["drop", "kind", "nulls", "rows", "metadata", "name"]))
    match what:
        case "drop":
            return table.remove_column(place)
        case "kind":
            kind = data.draw(kinds)
            return table.set_column(
                place, pa.field(field.name, kind), other_column(table[place], kind)
            )
        case "nulls":
            return table.set_column(place, field, pa.nulls(len(table), field.type))
        case "rows":
            return table.slice(0, data.draw(st.integers(0, 3)))
        case "name":
            return table.rename_columns(
                [f"{n}!" if n == field.name else n for n in table.column_names]
            )
    metadata = dict(table.schema.metadata or {})
    name = data.draw(st.sampled_from([*metadata, b"schema_version", b"new"]))
    values = st.sampled_from([b"", b"\xff", b"null", b"[]", b"{}", b'["a"]', b"NaN", b"9" * 5000])
    metadata[name] = data.draw(st.one_of(values, st.binary(max_size=20)))
    if data.draw(st.booleans()):
        del metadata[name]
    return table.replace_schema_metadata(metadata)


@FEW
@given(st.data())
def test_parquet_files(whole, finished, tmp_path, data):
    run = spoiled_copy(whole, tmp_path)
    path = data.draw(st.sampled_from([run.edits, run.features, run.labels]))
    table = pq.read_table(path)
    for _ in range(data.draw(st.integers(1, 2))):
        table = spoil_table(table, data)
    pq.write_table(table, path)
    read_everything(run, finished)


@FEW
@given(st.data())
def test_damaged_files(whole, finished, tmp_path, data):
    run = spoiled_copy(whole, tmp_path)
    files = [run.edits, run.features, run.labels, run.manifest]
    path = data.draw(st.sampled_from(files))
    raw = bytearray(path.read_bytes())
    match data.draw(st.sampled_from(["cut", "empty", "flip"])):
        case "cut":
            raw = raw[: data.draw(st.integers(0, len(raw)))]
        case "empty":
            raw = bytearray()
        case "flip":
            for _ in range(data.draw(st.integers(1, 5))):
                raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    read_everything(run, finished)
