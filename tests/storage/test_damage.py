"""Files of a run that are damaged or gone: each is named, nothing crashes, `repair` brings back."""

import random
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import autointerp
from autointerp.errors import DamagedFileError
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.journal_file import info
from autointerp.runs.directory import Run
from autointerp.storage.damage import MADE_AGAIN
from autointerp.storage.parquet_files import open_parquet
from tests.llm.journal.test_journal import put, received
from tests.support import scripted
from tests.support.fake_server import FakeServer

TABLES = tuple(name for name in MADE_AGAIN if name.endswith(".parquet") and name[0] != "e")
EVIDENCE = ("windows.parquet", "features.parquet", "corpus.parquet", "vocabulary.parquet")


def truncated(raw):
    return raw[: len(raw) // 2]


def zeros(raw):
    return bytes(len(raw))


def zeros_within(raw):
    return raw[: len(raw) // 4] + bytes(len(raw) // 2) + raw[len(raw) - len(raw) // 4 :]


def flipped(raw):
    """A few bytes of the first pages differ: the file can be opened all the same."""
    changed = bytearray(raw)
    for place in random.Random(1).sample(range(4, len(raw) // 3), 12):
        changed[place] ^= 0x55
    return bytes(changed)


def emptied(_raw):
    return b""


def missing(_raw):
    return None


DAMAGES = (truncated, zeros, zeros_within, flipped, emptied, missing)


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    return Run(tmp_path / "run")


def hurt(path, damage):
    raw = damage(path.read_bytes())
    if raw is None:
        path.unlink()
    else:
        path.write_bytes(raw)


def looked_at(run):
    """Commands that only look."""
    of_run = ("--run", str(run.path))
    return [
        ("labels", *of_run),
        ("show", "3", *of_run),
        ("scores", *of_run),
        ("compare", str(run.path), str(run.path)),
        ("report", str(run.path), "--features", "0-3"),
        ("export", "jsonl", *of_run, "--out", str(run.path.parent / "exported.jsonl")),
    ]


@pytest.mark.parametrize("name", [*TABLES, "run.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_nothing_crashes(cli, run, name, damage):
    hurt(run.path / name, damage)
    failed = 0
    for command in looked_at(run):
        code, _, said = cli(*command)
        assert code in (0, 2), (command, said)
        lines = [line for line in said.splitlines() if line.startswith("autointerp: ")]
        assert len(lines) == (code == 2), (command, said)
        if code == 2:
            failed += 1
            assert name in lines[0] or "`autointerp " in lines[0]
    # Something needs the file, and says so.
    assert failed or name in ("drafts.parquet", "corpus.parquet", "predictions.parquet")


@pytest.mark.parametrize("name", [*TABLES, "run.json"])
@pytest.mark.parametrize("damage", [truncated, flipped, missing])
def test_repair_and_the_same_command_bring_it_all_back(cli, planted, run, name, damage):
    before = autointerp.load_labels(run.path)
    flags = ("run", *planted.flags(run.path), "--features", "all")
    hurt(run.path / name, damage)
    code, printed, said = cli("repair", str(run.path))
    assert code == 0, said
    if name == "labels.parquet":
        # From drafts and scores alone: nothing is left to do.
        pd.testing.assert_frame_equal(autointerp.load_labels(run.path), before)
        assert "made again from the drafts of 14 features and their scores" in printed
        assert "score: already done" in cli(*flags)[2]
    if damage is not missing and name != "labels.parquet":
        assert "was damaged and is now" in printed
        assert list(run.path.glob(f"{name}.damaged1"))
    code, _, said = cli(*flags)
    assert code == 0, said
    pd.testing.assert_frame_equal(autointerp.load_labels(run.path), before)
    code, printed, _ = cli("repair", str(run.path))
    assert (code, "are intact" in printed) == (0, True)


def test_windows_that_are_gone_are_collected_again(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        monkey = ["--model", "test-model", "--base-url", server.url, "--api-key-env", "NONE"]
        flags = ("run", *monkey, *planted.flags(out))
        assert cli(*flags)[0] == 0
        before = autointerp.load_labels(out)
        (out / "windows.parquet").unlink()
        served = server.served.total()
        code, _, said = cli(*flags)
        assert code == 0, said
        assert server.served.total() == served
    pd.testing.assert_frame_equal(autointerp.load_labels(out), before)


def test_labels_by_a_model_come_back_from_drafts_scores_and_the_journal(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = ("--model", "test-model", "--base-url", server.url, *planted.flags(out))
        assert cli("run", *flags)[0] == 0
        before = autointerp.load_labels(out)
        served = server.served.total()
        hurt(out / "labels.parquet", zeros)
        assert cli("repair", str(out))[0] == 0
        again = autointerp.load_labels(out)
        same = [c for c in before if "tokens" not in c or c == "top_tokens"]
        pd.testing.assert_frame_equal(again[same], before[same])
        hurt(out / "drafts.parquet", zeros)
        assert cli("repair", str(out))[0] == 0
        assert cli("run", *flags)[0] == 0
        assert server.served.total() == served
    pd.testing.assert_frame_equal(autointerp.load_labels(out), before)


def test_costs_that_are_not_known_stay_unknown_without_the_record(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = ("--model", "test-model", "--base-url", server.url, *planted.flags(out))
        assert cli("run", *flags)[0] == 0
    costs = autointerp.load_labels(out)["cost_usd"]
    for name in ("run.json", "labels.parquet"):
        hurt(out / name, zeros)
    assert cli("repair", str(out))[0] == 0
    pd.testing.assert_series_equal(autointerp.load_labels(out)["cost_usd"], costs)


def test_scores_of_an_earlier_version_or_of_another_scorer_are_no_obstacle(cli, run):
    scores = pq.read_table(run.scores)
    at = scores.schema.get_field_index("scorer")
    strange = scores.slice(0, 1).set_column(
        at, scores.schema.field("scorer"), pa.array(["nosuch"], pa.string())
    )
    pq.write_table(pa.concat_tables([scores, strange]).drop_columns(["lift"]), run.scores)
    hurt(run.labels, zeros)
    assert cli("repair", str(run.path))[0] == 0
    labels = autointerp.load_labels(run.path)
    assert labels["detection_balanced_accuracy"].notna().any()
    assert not [name for name in labels if "nosuch" in name]


def test_repair_of_a_whole_run_writes_nothing(cli, run):
    before = {f.name: f.stat().st_mtime_ns for f in run.path.iterdir() if f.name != ".lock"}
    assert cli("repair", str(run.path))[0] == 0
    assert {f.name: f.stat().st_mtime_ns for f in run.path.iterdir() if f.name != ".lock"} == before


def test_labels_are_made_again_where_the_windows_are_gone_too(cli, run):
    before = autointerp.load_labels(run.path)
    hurt(run.labels, zeros)
    hurt(run.windows, zeros)
    assert cli("repair", str(run.path))[0] == 0
    pd.testing.assert_frame_equal(autointerp.load_labels(run.path), before)


def test_a_damaged_text_of_fade_is_set_aside(cli, run):
    run.folder_of("fade").mkdir()
    (run.folder_of("fade") / "texts.parquet").write_bytes(b"PAR1")
    code, printed, _ = cli("repair", str(run.path))
    assert code == 0
    assert "the next `autointerp score` writes it again" in printed
    assert [file.name for file in run.folder_of("fade").iterdir()] == ["texts.parquet.damaged1"]


def test_repair_wants_a_run(cli, tmp_path):
    code, _, said = cli("repair", str(tmp_path))
    assert (code, "it has none of a run's files" in said) == (2, True)
    assert cli("repair", str(tmp_path / "none"))[0] == 2
    assert not (tmp_path / "none").exists()


@given(st.sampled_from(TABLES), st.floats(0, 1), st.integers(1, 255))
def test_a_changed_byte_of_a_table_is_noticed_or_changes_nothing(finished, name, where, change):
    raw = bytearray((finished.path / name).read_bytes())
    footer = int.from_bytes(raw[-8:-4], "little") + 8
    raw[round(where * (len(raw) - footer - 1))] ^= change
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        try:
            read = open_parquet(path).read()
        except DamagedFileError as error:
            event(f"noticed: {error.reason[:20]}")
        else:
            assert read.equals(open_parquet(finished.path / name).read())


@pytest.mark.parametrize("pages", [1, 3])
def test_replies_around_damaged_pages_of_a_journal_are_saved(cli, tmp_path, pages):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.update(config={})
    journal = Journal.open(run.journal)
    put(journal, *(received(i) for i in range(2000)))
    journal.set_fact("a", "b")
    journal.close()
    raw = bytearray(run.journal.read_bytes())
    size = sqlite3.connect(run.journal).execute("PRAGMA page_size").fetchone()[0]
    first = len(raw) // size // 2
    raw[first * size : (first + pages) * size] = bytes(pages * size)
    run.journal.write_bytes(raw)
    code, printed, said = cli("repair", str(run.path))
    assert code == 0, said
    saved = info(run.journal).replies
    assert f"{saved:,} replies were saved" in printed
    assert 2000 - 200 * pages < saved <= 2000
    journal = Journal.open(run.journal)
    kept = [i for i in range(2000) if journal.get(f"k{i}") == (b'{"reply": %d}' % i, 0.5)]
    assert len(kept) == saved
    assert journal.fact("a") == "b"
    journal.close()
    assert "are intact" in cli("repair", str(run.path))[1]


def test_a_journal_of_zeros_is_said_and_replaced(cli, tmp_path):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.update(config={})
    run.journal.write_bytes(bytes(8192))
    assert "autointerp repair" in cli("journal", "info", "--run", str(run.path))[2]
    assert "0 replies were saved" in cli("repair", str(run.path))[1]
    assert info(run.journal).replies == 0
