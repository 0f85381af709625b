"""The label table of a run that is still labeling, and of one that was killed while it did."""

import shutil
import threading

import pandas as pd
import pytest

import autointerp
from autointerp.labeling.labeler import Draft
from autointerp.runs.directory import Run
from autointerp.stages.label import label_table, live_table
from tests.support import scripted
from tests.support.fake_server import FakeServer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    monkeypatch.setattr(live_table, "FIRST_S", 0.001)
    monkeypatch.setattr(live_table, "EVERY_S", 0.001)
    monkeypatch.setattr(live_table, "SHARE", 1.0)


@pytest.fixture
def written(monkeypatch):
    """How many features had a label in each label table that the stage has written."""
    counts, more = [], threading.Condition()
    write = label_table.write_labels

    def recorded(coder, drafts, *rest):
        write(coder, drafts, *rest)
        with more:
            counts.append(sum(draft.status == "labeled" for draft in drafts))
            more.notify_all()

    def until(n):
        with more:
            assert more.wait_for(lambda: n in counts, 20)

    monkeypatch.setattr(label_table, "write_labels", recorded)
    return counts, until


def flags_for(server, planted, out):
    flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "4"]
    return [*flags, "--max-concurrency", "1", *planted.flags(out)]


def test_a_run_is_read_while_it_labels_and_its_remains_are_not_taken_for_done(
    cli, planted, tmp_path, written
):
    counts, until = written
    out, remains, seen = tmp_path / "out", tmp_path / "remains", []

    def answer(request):
        if len(server.requests) == 3 and not seen:
            until(8)
            seen.append(autointerp.load_labels(out))
            shutil.copytree(out, remains)  # as it would be had the run been killed now
        return scripted.answer(request)

    with FakeServer(answer) as server:
        flags = flags_for(server, planted, out)
        assert cli("collect", *flags)[0] == 0
        code, _, err = cli("label", *flags)
        assert code == 0, err
        whole = autointerp.load_labels(out)
        so_far = seen[0]
        assert so_far.feature.tolist() == whole.feature.tolist() == list(range(14))
        labeled = so_far.status == "labeled"
        assert labeled.sum() == 8
        assert so_far[labeled].label.tolist() == whole[labeled].label.tolist()
        assert set(so_far[~labeled].status) <= {"pending", "dead", "too_few"}
        assert set(so_far[so_far.status == "pending"].error) == {"it is not labeled yet"}
        assert so_far.n_active.tolist() == whole.n_active.tolist()
        assert counts[-1] == 12

        # What was on its way is taken up; what had come is not asked for again.
        assert not Run(remains).drafts.exists()
        assert not Run(remains).stages().label
        code, _, err = cli("score", *flags, "--out", str(remains))
        assert code == 2
        assert "label" in err
        asked = len(server.requests)
        code, _, err = cli("label", *flags, "--out", str(remains))
        assert code == 0
        assert "already done" not in err
        assert len(server.requests) == asked + 1
    pd.testing.assert_frame_equal(autointerp.load_labels(remains), whole)


def test_a_table_with_scores_stays_until_the_new_labels_are_there(cli, planted, tmp_path, written):
    counts, _ = written
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = flags_for(server, planted, out)
        assert cli("run", *flags)[0] == 0
        before = autointerp.load_labels(out)
        counts.clear()
        # Other requests, but the same labels: the scores are still theirs.
        assert cli("label", *flags, "--temperature", "0.5")[0] == 0
        assert counts == []
        pd.testing.assert_frame_equal(autointerp.load_labels(out), before)
        assert Run(out).stages().score


def test_rules_are_shown_meanwhile_as_well(cli, planted, tmp_path, written):
    counts, _ = written
    for command in ("collect", "label"):
        assert cli(command, *planted.flags(tmp_path / "out"))[0] == 0
    assert counts[-1] == 12
    assert len(counts) > 1


def test_writing_takes_a_bounded_share_of_the_time(monkeypatch):
    monkeypatch.undo()
    for seconds in (0.01, 1.0, 20.0):
        assert seconds / (seconds + live_table.pause_after(seconds)) <= 0.02
    assert live_table.pause_after(0) >= 30


def test_a_table_that_cannot_be_written_does_not_stop_the_labeling(capsys):
    tried = threading.Event()

    def write(_drafts):
        tried.set()
        raise OSError("no space left on device")

    with live_table.written_meanwhile([Draft(0, "pending", "m")], write) as show:
        show(Draft(0, "labeled", "m", label="x"))
        assert tried.wait(20)
    assert "could not be written: no space left on device; labeling continues" in (
        capsys.readouterr().err
    )
