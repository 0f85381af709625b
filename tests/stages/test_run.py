"""The whole job, on the command line, against a real server on loopback."""

import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import select
import signal
import termios
import threading
from pathlib import Path

import pandas as pd
import pytest

import autointerp
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.journal_file import info
from tests.support import scripted
from tests.support.fake_server import FakeServer, Fault, key_of, status
from tests.support.processes import Command


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")


def model_flags(server: FakeServer) -> list[str]:
    return ["--model", "test-model", "--base-url", server.url, "--features-per-request", "4"]


def table(out: Path) -> pd.DataFrame:
    return autointerp.load_labels(out).set_index("feature")


def test_right_labels_score_high_and_wrong_ones_like_chance(cli, planted, tmp_path):
    with FakeServer(scripted.answer) as server:
        code, out, err = cli("run", *model_flags(server), *planted.flags(tmp_path / "out"))
    assert code == 0, err
    assert "12 labeled, 1 dead, 1 too_few" in out
    labels = table(tmp_path / "out")
    assert labels.index.tolist() == list(range(14))
    assert labels["status"].tolist() == ["labeled"] * 12 + ["dead", "too_few"]
    labeled = labels[labels["status"] == "labeled"]
    for feature, row in labeled.iterrows():
        assert set(row["label"].split()) == set(planted.words[feature])
    assert labeled["detection_balanced_accuracy"].min() >= 0.95
    assert labeled["detection_null"].median() == pytest.approx(0.5, abs=0.1)
    assert labeled["simulation_correlation"].min() >= 0.85
    assert labeled["simulation_null"].abs().max() < 0.2
    assert labeled["population_f1_ci_high"].min() > 0.95
    assert labeled["population_f1"].min() > 0.5
    assert (labeled["detection_parse_rate"] == 1).all()
    assert labeled["flags"].map(len).max() == 0
    assert (labeled["detection_p_value"] <= 1 / 13 + 1e-6).all()
    # Twelve nulls are too few for a discovery at 5 %, however good the labels.
    assert (labeled["detection_q_value"] == labeled["detection_p_value"]).all()
    told = " ".join(out.replace("│", " ").split())
    assert told.count("12 nulls are too few to say which labels beat them") == 2
    assert (labeled["detection_ci_low"] <= labeled["detection_balanced_accuracy"]).all()
    assert "activating windows to label, but 5 are needed" in labels.loc[13, "error"]
    scores = autointerp.load_scores(tmp_path / "out")
    assert set(scores["metric"]) == {
        "balanced_accuracy",
        "near_miss_balanced_accuracy",
        "correlation",
        "correlation_among_active",
        "explained_variance",
        "spearman",
        "token_recall",
        "population_correlation",
        "population_f1",
        "population_mcc",
        "population_precision",
        "population_recall",
    }


def test_labeling_windows_and_scoring_windows_share_no_context(cli, planted, tmp_path):
    out = tmp_path / "out"
    assert cli("collect", *planted.flags(out))[0] == 0
    for feature in (0, 1, 5):
        windows = autointerp.load_windows(out, feature)
        splits = windows.groupby("split")["context"].agg(set)
        assert splits["label"]
        assert splits["score"]
        assert not splits["label"] & splits["score"]
        assert not splits["label"] & splits["validate"]


def test_a_second_run_sends_nothing_and_changes_redo_what_depends_on_them(cli, planted, tmp_path):
    out = tmp_path / "out"
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    flags = [*planted.flags(out), "--prompts", str(prompts)]
    with FakeServer(scripted.answer) as server:
        flags += model_flags(server)
        assert cli("run", *flags)[0] == 0
        sent, first = len(server.requests), table(out)
        code, _, err = cli("run", *flags)
        assert code == 0
        assert len(server.requests) == sent
        for stage in ("collect", "label", "score"):
            assert f"{stage}: already done" in err
        pd.testing.assert_frame_equal(first, table(out))

        bundled = Path("prompts/detection.jinja").read_text()
        (prompts / "detection.jinja").write_text(bundled.replace("You are given", "Here is"))
        _, _, err = cli("run", *flags)
        assert "label: already done" in err
        assert "score: already done" not in err
        # Simulation's replies are in the journal, only detection is asked again.
        again = server.requests[sent:]
        assert len(again) == 24
        assert all("Here is" in r["messages"][0]["content"] for r in again)

        sent = len(server.requests)
        _, _, err = cli("run", *flags, "--features", "2-3")
        assert "collect: already done" in err
        assert table(out).index.tolist() == [2, 3]


def fragile(request, seen, index):
    """Every kind of trouble, on the first sight of a request only."""
    faults = [
        status(429, retry_after_ms="1"),
        status(500),
        Fault("truncate"),
        Fault("drop"),
        Fault("length", keep=60),
        Fault("raw", body=b"<html>"),
        None,
        None,
    ]
    return faults[index % len(faults)] if seen == 0 else None


@pytest.fixture
def _quick_backoff(monkeypatch):
    monkeypatch.setattr("autointerp.llm.limits.retry.FIRST_BACKOFF_S", 0.001)


@pytest.mark.usefixtures("_quick_backoff")
def test_every_feature_gets_its_label_through_faults(cli, planted, tmp_path):
    with FakeServer(scripted.answer, faults=fragile) as server:
        code, _, err = cli("run", *model_flags(server), *planted.flags(tmp_path / "out"))
    assert code == 0, err
    labels = table(tmp_path / "out")
    assert labels["status"].tolist() == ["labeled"] * 12 + ["dead", "too_few"]
    labeled = labels.iloc[:12]
    assert labeled["detection_balanced_accuracy"].min() >= 0.95
    assert labeled["simulation_correlation"].notna().all()


def unreadable(spoil):
    """The scripted model with its list of labels changed by `spoil`."""

    def respond(request):
        text = scripted.answer(request)
        reply = json.loads(text)
        if "labels" in reply:
            reply["labels"] = spoil(reply["labels"])
            return json.dumps(reply)
        return text

    return respond


@pytest.mark.parametrize(
    "spoil",
    [
        lambda labels: labels[: len(labels) // 2] if len(labels) > 1 else labels,
        lambda labels: labels[::-1],
        lambda labels: [*labels, labels[0], labels[0] | {"n": 99}],
        lambda labels: [
            x | {"label": ""} if i == 0 and len(labels) > 1 else x for i, x in enumerate(labels)
        ],
        lambda labels: [x | {"confidence": "high"} if i == 1 else x for i, x in enumerate(labels)],
        lambda labels: [
            *labels,
            *([labels[0] | {"label": "something else"}] if len(labels) > 1 else []),
        ],
    ],
    ids=["missing", "reordered", "repeated", "empty", "invalid", "contradicting"],
)
def test_what_a_reply_lacks_is_asked_again(cli, planted, tmp_path, spoil):
    with FakeServer(unreadable(spoil)) as server:
        flags = [*model_flags(server), *planted.flags(tmp_path / "out"), "--features", "0-7"]
        assert cli("collect", *flags)[0] == 0
        code, _, err = cli("label", *flags)
    assert code == 0, err
    labels = table(tmp_path / "out")
    for feature, row in labels.iterrows():
        assert set(row["label"].split()) == set(planted.words[feature])


def test_a_feature_that_gets_no_label_fails_alone_with_the_reason(cli, planted, tmp_path):
    def without_bago(labels):
        return [x for x in labels if "bago" not in x["label"]]

    out = tmp_path / "out"
    with FakeServer(unreadable(without_bago)) as server:
        flags = [*model_flags(server), *planted.flags(out), "--features", "0-7"]
        code, _, said = cli("run", *flags)
        # One of eight is more than a tenth.
        assert code == 1
        assert "1 of 8 features failed" in said
        labels = table(out)
        assert labels["status"].tolist() == ["failed" if f == 2 else "labeled" for f in range(8)]
        assert labels.loc[2, "error"] == "no valid label in the reply"
        assert pd.isna(labels.loc[2, "label"])
        assert pd.isna(labels.loc[2, "detection_balanced_accuracy"])
        assert labels.loc[2, "prompt_tokens"] > 0
        # What failed is asked about again by the next run, by itself, and nothing else is.
        sent = len(server.requests)
        code, _, said = cli("run", *flags)
        assert code == 1
        assert "retrying 1 feature that failed" in said
        assert len(server.requests) == sent + 2
        pd.testing.assert_frame_equal(labels, table(out))


def test_refused_features_are_marked_and_the_others_labeled(cli, planted, tmp_path):
    def refuse(request, _seen, _index):
        user = request["messages"][1]["content"]
        wanted = "Feature 1 " in user and "<< bafi>>" in user
        return Fault("refusal") if wanted else None

    with FakeServer(scripted.answer, faults=refuse) as server:
        flags = [*model_flags(server), *planted.flags(tmp_path / "out"), "--features", "0-7"]
        assert cli("collect", *flags)[0] == 0
        assert cli("label", *flags)[0] == 0
    labels = table(tmp_path / "out")
    assert labels["status"].tolist() == ["refused" if f == 1 else "labeled" for f in range(8)]


def test_tokens_and_cost_of_rows_add_up_to_the_bill(cli, planted, tmp_path):
    out = tmp_path / "out"
    prices = ["--input-price", "1", "--output-price", "2"]
    with FakeServer(scripted.answer) as server:
        assert cli("run", *model_flags(server), *planted.flags(out), *prices)[0] == 0
    labels = table(out)
    billed = sum(len(body) // 4 for body in server.bodies)
    assert labels["prompt_tokens"].sum() == billed
    completion = labels["completion_tokens"].sum()
    assert labels["cost_usd"].sum() == pytest.approx((billed + 2 * completion) / 1e6)


def test_without_a_price_the_cost_is_unknown_and_not_zero(cli, planted, tmp_path):
    with FakeServer(scripted.answer) as server:
        code, out, _ = cli("run", *model_flags(server), *planted.flags(tmp_path / "out"))
    assert code == 0
    assert "price unknown" in out
    assert table(tmp_path / "out")["cost_usd"].iloc[:12].isna().all()


def test_a_dry_run_counts_and_sends_nothing(cli, planted, tmp_path):
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(tmp_path / "out")]
        prices = ["--input-price", "1", "--output-price", "2"]
        code, _, err = cli("run", *flags, *prices, "--dry-run")
        assert code == 0
        assert not server.requests
        assert "label: 3 requests" in err
        assert "$" in err
        assert cli("run", *flags, *prices)[0] == 0
        labels = [r for r in server.requests if '"labels"' in r["messages"][0]["content"]]
        assert len(labels) == 3


def test_the_shown_prompt_is_the_sent_prompt(cli, planted, tmp_path):
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(tmp_path / "out"), "--features", "3,7"]
        assert cli("collect", *flags)[0] == 0
        _, shown, _ = cli("prompt", "show", "label", *flags)
        assert not server.requests
        assert cli("label", *flags)[0] == 0
    for message in server.requests[0]["messages"]:
        assert message["content"] in shown


def test_the_key_is_written_nowhere(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer, api_key="sk-planted-secret") as server:
        assert cli("run", *model_flags(server), *planted.flags(out))[0] == 0
    for file in out.rglob("*"):
        if file.is_file():
            assert b"sk-planted-secret" not in file.read_bytes()


def test_a_stage_that_died_halfway_is_not_taken_for_done(cli, planted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    flags = planted.flags(out)
    assert cli("run", *flags)[0] == 0
    first = table(out)

    def die(*_):
        raise KeyboardInterrupt

    # Between windows.parquet and features.parquet, with another seed.
    with monkeypatch.context() as patched:
        patched.setattr("autointerp.stages.collect.collect_stage.write_features", die)
        assert cli("run", *flags, "--seed", "5")[0] == 130
    code, _, said = cli("run", *flags)
    assert code == 0
    assert "collect: already done" not in said
    pd.testing.assert_frame_equal(first, table(out))


@pytest.mark.parametrize("kill_after", [1, 17])
def test_kill_9_loses_and_doubles_nothing(planted, tmp_path, kill_after, cli):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(out), "--max-concurrency", "4"]
        # Who pays for finding out how simulation may ask depends on when the run is killed.
        flags += ["--simulation-mode", "json"]

        def kill(served: int) -> None:
            if served == kill_after:
                process.send(signal.SIGKILL)

        server.on_served = kill
        process = Command("run", *flags)
        assert process.wait() == -signal.SIGKILL
        before = len(server.bodies)
        journal = Journal.open(out / "journal.sqlite")
        received = {
            body for body in server.bodies if journal.get(key_of(server.url, body)) is not None
        }
        journal.close()
        # Four on their way, and what was received but not yet on disk.
        assert len(received) >= kill_after - 4 - 20

        server.on_served = None
        code, _, said = cli("run", *flags)
        assert code == 0
        assert not received & set(server.bodies[before:])
        assert max(server.served.values()) <= 2
        twice = sum(n == 2 for n in server.served.values())
        doubts = re.search(r"(\d+) requests? sent earlier without a recorded reply", said)
        assert twice <= int(doubts[1] if doubts else 0) <= 4 + 20
        disturbed = table(out)
        assert cli("run", *flags, "--out", str(tmp_path / "calm"))[0] == 0
    pd.testing.assert_frame_equal(disturbed, table(tmp_path / "calm"))
    assert disturbed.index.tolist() == list(range(14))


def test_ctrl_c_waits_for_what_is_in_flight_and_says_how_to_go_on(planted, tmp_path, cli):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(out), "--max-concurrency", "4"]

        def interrupt(served: int) -> None:
            if served == 7:
                process.send(signal.SIGINT)

        server.on_served = interrupt
        process = Command("run", *flags, log=tmp_path / "log")
        assert process.wait() == 130
        said = process.said()
        assert "Traceback" not in said
        assert said.splitlines()[-1] == "autointerp: stopped; rerun the same command to resume"
        server.on_served = None
        code, _, said = cli("run", *flags)
        assert code == 0
        assert "without a recorded reply" not in said
        assert max(server.served.values()) == 1
    assert table(out)["status"].tolist() == ["labeled"] * 12 + ["dead", "too_few"]


def _on_terminal(path: str, on_hangup: signal.Handlers) -> None:
    """Make the terminal that of a session of its own, as one's shell does."""
    os.setsid()
    terminal = os.open(path, os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(terminal, number)
    os.close(terminal)
    signal.signal(signal.SIGHUP, on_hangup)


@pytest.mark.parametrize("terminal", ["open", "closed", "nohup"])
def test_a_hangup_drains_unless_it_is_ignored(planted, tmp_path, cli, terminal):
    """Closing a terminal is a hangup, and nothing can be written to it from then on."""
    out = tmp_path / "out"
    ours, theirs = pty.openpty()
    told, tell = os.pipe()

    def hang_up(served: int) -> None:
        if served == 3 and terminal == "closed":
            os.write(tell, b"now")
        elif served == 3:
            process.send(signal.SIGHUP)

    before = {"nohup": signal.SIG_IGN}.get(terminal, signal.SIG_DFL)

    with FakeServer(scripted.answer) as server:
        server.on_served = hang_up
        flags = [*model_flags(server), *planted.flags(out), "--max-concurrency", "2"]
        ready = functools.partial(_on_terminal, os.ttyname(theirs), before)
        process = Command("run", *flags, ready=ready)
        assert told not in select.select([ours, told], [], [])[0]  # it is on its terminal
        os.close(theirs)
        with contextlib.suppress(OSError):  # the terminal ends with the process
            while told not in select.select([ours, told], [], [])[0]:
                os.read(ours, 65536)
        os.close(ours)
        os.close(told)
        os.close(tell)
        assert process.wait() == (0 if terminal == "nohup" else 130)
        server.on_served = None
        code, _, said = cli("run", *flags)
        assert code == 0
        assert "without a recorded reply" not in said
        assert max(server.served.values()) == 1
    assert set(table(out)["status"]) == {"labeled", "dead", "too_few"}


def test_a_stopped_run_leaves_a_table_of_what_is_done(planted, tmp_path, cli):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(out), "--max-concurrency", "1"]
        flags += ["--features-per-request", "2"]
        assert cli("collect", *flags)[0] == 0

        def interrupt(served: int) -> None:
            if served == 2:
                process.send(signal.SIGINT)

        server.on_served = interrupt
        process = Command("label", *flags, log=tmp_path / "log")
        assert process.wait() == 130
        said = process.said()
        server.on_served = None
        assert "label: " in said
        assert "pending" in said
        statuses = table(out)["status"].value_counts()
        assert statuses["pending"] >= 6
        assert statuses["labeled"] >= 2
        assert cli("label", *flags)[0] == 0
        assert max(server.served.values()) == 1
    assert table(out)["status"].tolist() == ["labeled"] * 12 + ["dead", "too_few"]


def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing_received(planted, tmp_path, cli):
    out = tmp_path / "out"

    def hangs(_request, _seen, index):
        if index >= 3:
            hanging.set()
            return Fault("hang")
        return None

    hanging = threading.Event()
    with FakeServer(scripted.answer, faults=hangs) as server:
        flags = [*model_flags(server), *planted.flags(out), "--max-concurrency", "1"]
        flags += ["--features-per-request", "2"]
        assert cli("collect", *flags)[0] == 0
        os.mkfifo(tmp_path / "pipe")
        process = Command("label", *flags, log=tmp_path / "pipe")
        with (tmp_path / "pipe").open() as lines:
            assert hanging.wait(60)
            process.send(signal.SIGINT)
            assert any(line.startswith("stopping: waiting up to") for line in lines)
            process.send(signal.SIGINT)
            said = lines.read()
        assert process.wait() == 130
        assert "rerun the same command to resume" in said
        # Some of the three replies may not be in the table yet, but all are in the journal.
        assert info(out / "journal.sqlite").replies == 3
        server.faults = None
        code, _, said = cli("label", *flags)
        assert code == 0
        assert "1 request sent earlier without a recorded reply" in said
        assert max(server.served.values()) == 1
    assert table(out)["status"].value_counts()["labeled"] == 12


def test_a_key_that_is_revoked_midway_keeps_what_was_done(planted, tmp_path, cli):
    def revoked(_request, _seen, index):
        return status(401, "key revoked") if index >= 2 else None

    out = tmp_path / "out"
    with FakeServer(scripted.answer, faults=revoked) as server:
        flags = [*model_flags(server), *planted.flags(out), "--max-concurrency", "1"]
        flags += ["--features-per-request", "2"]
        code, _, said = cli("run", *flags)
        assert code == 2
        assert "key revoked" in said
        assert table(out)["status"].value_counts()["labeled"] == 4
        server.faults = None
        assert cli("run", *flags)[0] == 0
        assert max(server.served.values()) == 1
    assert table(out)["status"].value_counts()["labeled"] == 12


def test_labeling_again_in_vain_leaves_the_scores(planted, tmp_path, cli):
    word = planted.words[0][0]

    def answer(request):
        system, user = (m["content"] for m in request["messages"][:2])
        of_first = '"labels"' in system and f"<<{word}>>" in user.replace("<< ", "<<")
        return "no JSON" if of_first else scripted.answer(request)

    out = tmp_path / "out"
    with FakeServer(answer) as server:
        flags = [*model_flags(server), *planted.flags(out), "--features-per-request", "1"]
        assert cli("run", *flags)[0] == 0
        before = table(out)
        assert (before["status"] == "failed").sum() == 1
        asked = len(server.bodies)
        assert cli("label", *flags)[0] == 0
        assert len(server.bodies) == asked + 2
    pd.testing.assert_frame_equal(table(out), before)
    assert before["detection_balanced_accuracy"].notna().sum() == 11


def test_a_budget_is_kept_and_the_next_run_takes_up_what_is_left(planted, tmp_path, cli):
    out = tmp_path / "out"
    prices = ["--input-price", "30", "--output-price", "120"]
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(out), *prices, "--features-per-request", "1"]
        code, _, said = cli("label", *flags, "--budget", "0.3")
        assert code == 2
        assert "run `autointerp collect` first" in said
        assert cli("collect", *flags)[0] == 0
        code, _, said = cli("label", *flags, "--budget", "0.3")
        assert code == 0
        statuses = table(out)["status"].value_counts()
        assert 1 <= statuses["labeled"] <= 11
        assert statuses["over_budget"] == 12 - statuses["labeled"]
        spent = table(out)["cost_usd"].sum()
        assert 0 < spent <= 0.3
        assert cli("label", *flags, "--budget", "5")[0] == 0
        assert max(server.served.values()) == 1
        code, _, said = cli("label", *model_flags(server), *planted.flags(out), "--budget", "5")
        assert code == 2
        assert "a budget needs a price" in said
    assert table(out)["status"].value_counts()["labeled"] == 12


def test_the_journal_has_commands(planted, tmp_path, cli):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        assert cli("run", *model_flags(server), *planted.flags(out))[0] == 0
        served = server.served.total()
    code, printed, _ = cli("journal", "info", "--run", str(out))
    assert code == 0
    assert f"replies   {served}" in printed
    code, printed, _ = cli("journal", "export", "--run", str(out))
    replies = [json.loads(line) for line in printed.splitlines()]
    assert len(replies) == served
    assert json.loads(replies[0]["reply"])["choices"]
    code, printed, _ = cli("journal", "prune", "--run", str(out), "--days", "1")
    assert printed.startswith("0 replies deleted")
    code, printed, _ = cli("journal", "prune", "--run", str(out), "--days", "0")
    assert printed.startswith(f"{served} replies deleted")
    (out / "journal.sqlite").unlink()
    code, _, said = cli("journal", "info", "--run", str(out))
    assert code == 2
    assert "no such file" in said


def test_no_output_ever_holds_the_key(planted, tmp_path, cli, monkeypatch):
    key = "sk-planted-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)

    def faulty(request, seen, index):
        faults = [None, status(500, f"bad {key}"), Fault("drop"), Fault("truncate"), None]
        return faults[index % len(faults)] if seen == 0 else None

    out = tmp_path / "out"
    with FakeServer(scripted.answer, api_key=key, faults=faulty) as server:
        flags = [*model_flags(server), *planted.flags(out)]
        said = [cli("doctor", *flags), cli("run", *flags), cli("labels", "--run", str(out))]
        said.append(cli("journal", "export", "--run", str(out)))
        server.faults = lambda _r, _s, index: status(401, f"no such key {key}")
        said.append(cli("run", *flags, "--seed", "5"))
        server.api_key = "another"
        said.append(cli("run", *flags, "--seed", "6"))
    assert [outcome[0] for outcome in said[-2:]] == [2, 2]
    assert "no such key [key]" in said[-2][2]
    assert not any(key in str(text) for outcome in said for text in outcome)
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 8
    assert not any(key.encode() in path.read_bytes() for path in written)


def test_one_scorer_alone(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = [*model_flags(server), *planted.flags(out), "--scorers", "simulation"]
        assert cli("run", *flags)[0] == 0
    assert set(autointerp.load_scores(out)["scorer"]) == {"simulation"}
    assert table(out)["detection_balanced_accuracy"].isna().all()


def test_a_record_says_what_the_run_was_made_from(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        assert cli("run", *model_flags(server), *planted.flags(out))[0] == 0
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["model"] == "test-model"
    assert record["versions"]["autointerp"] == autointerp.__version__
    stages = record["stages"]
    assert set(stages["collect"]["hashes"]) == {"cache", "coder"}
    assert stages["label"]["outcomes"] == {"labeled": 12, "dead": 1, "too_few": 1}
    asked = stages["label"]["asked"]["requests"] + stages["score"]["asked"]["requests"]
    assert asked == server.served.total()


def test_rules_label_and_judge_the_planted_features(cli, planted, tmp_path):
    out = tmp_path / "out"
    code, _, said = cli("run", *planted.flags(out))
    assert code == 0
    assert "no model was given" in said
    labels = table(out)
    labeled = labels[labels["status"] == "labeled"]
    assert len(labeled) == 12
    for feature, row in labeled.iterrows():
        assert all(word in row["label"] for word in planted.words[feature])
    assert labeled["detection_balanced_accuracy"].min() >= 0.95
    assert labeled["detection_null"].median() == pytest.approx(0.5, abs=0.1)
    assert labeled["simulation_correlation"].min() >= 0.85
    assert labeled["simulation_null"].abs().max() < 0.2


def test_labels_are_not_scored_on_evidence_they_were_not_made_from(cli, planted, tmp_path):
    flags = planted.flags(tmp_path / "out")
    assert cli("run", *flags)[0] == 0
    assert cli("collect", *flags, "--seed", "9")[0] == 0
    code, _, said = cli("score", *flags, "--seed", "9")
    assert code == 2
    assert "were made from other evidence" in said


def test_a_models_labels_need_a_model_as_judge(cli, planted, tmp_path):
    flags = planted.flags(tmp_path / "out")
    with FakeServer(scripted.answer) as server:
        assert cli("collect", *flags)[0] == 0
        assert cli("label", *flags, *model_flags(server))[0] == 0
        code, _, said = cli("score", *flags)
        assert code == 2
        assert "needs --model" in said
        twice = ["--scorers", "detection,detection"]
        assert cli("score", *flags, *model_flags(server), *twice)[0] == 0
    scores = autointerp.load_scores(tmp_path / "out")
    assert not scores.duplicated(["feature", "scorer", "metric"]).any()


@pytest.mark.usefixtures("_quick_backoff")
def test_judgments_that_could_not_be_had_are_asked_for_by_the_next_run(cli, planted, tmp_path):
    def no_judge(request, _seen, _index):
        return status(500) if '"no_match"' in request["messages"][0]["content"] else None

    out = tmp_path / "out"
    with FakeServer(scripted.answer, faults=no_judge) as server:
        flags = [*model_flags(server), *planted.flags(out), "--max-attempts", "2"]
        code, _, said = cli("run", *flags)
        assert code == 0
        assert "24 judgments failed (status 500: status 500)" in said
        assert table(out)["detection_balanced_accuracy"].isna().all()
        server.faults = None
        assert cli("run", *flags)[0] == 0
    assert table(out)["detection_balanced_accuracy"].notna().sum() == 12
