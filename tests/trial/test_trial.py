"""A trial of scripted models over HTTP: what it says of them, and what a run makes of that."""

import io
import json
import re
import shutil

import pytest

from autointerp.llm.journal.journal import Journal
from autointerp.prompting.prompts import BUNDLED
from autointerp.tables.read import load_scores
from tests.conftest import run_command
from tests.support.fake_server import FakeServer
from tests.support.models import Coin, Collapsing, Copying, Counting, Mended, Model, Ranking, Yes
from tests.support.samples import WITH_EXAMPLE

AT_CHANCE = "not distinguishable from chance in"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """Examines a model once: exit status, what is printed, the record, how many were served."""
    known = {}

    def examine(model):
        if model not in known:
            out = tmp_path_factory.mktemp(model.__name__)
            flags = with_example(out) if issubclass(model, Copying) else []
            with FakeServer(model()) as server, pytest.MonkeyPatch.context() as patch:
                patch.setenv("OPENAI_API_KEY", "k")
                code, shown, said = run_command("doctor", *flags_of(server, out), *flags)
            assert code in (0, 1), said
            record = json.loads((out / "doctor.json").read_text())
            known[model] = code, shown, record, len(server.requests)
        return known[model]

    return examine


def with_example(folder):
    """Flags for a label template that shows an example, as a user's own may."""
    (folder / "prompts").mkdir(parents=True)
    shutil.copy(WITH_EXAMPLE, folder / "prompts" / "label.jinja")
    return ["--prompts", str(folder / "prompts")]


def flags_of(server, out):
    return ["--model", "test-model", "--base-url", server.url, "--out", str(out)]


def way(record, task, form, items):
    return next(
        w for w in record["judging"] if (w["task"], w["form"], w["items"]) == (task, form, items)
    )


def labels(record, size):
    return next(w for w in record["labels"] if w["size"] == size)


def test_a_model_that_is_right_is_found_to_be(examined):
    code, shown, record, requests = examined(Model)
    assert code == 0
    assert requests <= 40
    assert [(w["size"], w["right"], w["features"]) for w in record["labels"]] == [
        (1, 6, 6), (4, 12, 12), (10, 10, 10),
    ]  # fmt: skip
    for judged in record["judging"]:
        assert judged["right"] == judged["answered"] == judged["asked"] == 2 * judged["yes"]
    assert way(record, "fuzzing", "lists", 12)["asked"] == 24
    (simulated,) = record["simulation"]
    assert simulated.pop("correlation") > 0.99
    assert simulated == {"mode": "json", "windows": 8, "answered": 8}
    assert set(record["not_given"]) == {"probabilities", "prompt_logprobs", "top_logprobs"}
    assert "--features-per-request 10 --judge-form lists --judge-items 24" in shown
    assert "tokens a second" in shown
    assert "AUROC" not in shown
    assert shown.splitlines()[-1] == "no problems found with the model"


@pytest.mark.parametrize("model", [Coin, Yes])
def test_a_judge_that_knows_nothing_is_called_so(examined, model):
    code, shown, record, requests = examined(model)
    assert code == 1
    assert AT_CHANCE in shown
    # One excerpt at a time is tried before that is said.
    alone = next(w for w in record["judging"] if w["items"] == 1)
    assert alone["asked"] == 24
    assert requests <= 65
    assert "no problems found" not in shown
    if model is Yes:
        assert all(w["right"] * 2 == w["answered"] == w["yes"] for w in record["judging"])


def test_a_timid_judge_is_told_from_chance_by_how_it_ranks(examined):
    code, shown, record, _ = examined(Ranking)
    assert code == 0
    found = way(record, "detection", "probabilities", 10)
    assert (found["yes"], found["right"], found["ranked"]) == (0, 30, 60)
    assert found["asked"] == 60
    assert "--judge-form probabilities --judge-items 24" in shown
    assert record["not_given"] == ["prompt_logprobs"]
    assert "use the AUROC" in shown
    assert "--simulation-mode top_logprobs" in shown


def test_a_judge_that_counts_is_asked_in_another_form(examined):
    code, shown, record, _ = examined(Counting)
    assert code == 0
    assert way(record, "detection", "lists", 10)["right"] <= 15
    assert "--judge-form booleans --judge-items 24" in shown
    assert "test-model is not usable with the current settings" in shown


def test_labels_that_are_the_templates_are_counted_as_copied(examined):
    code, shown, record, _ = examined(Copying)
    assert code == 1
    assert [(w["copied"], w["right"]) for w in record["labels"]] == [(6, 0), (12, 0), (10, 0)]
    assert "it named 0 of" in shown


def test_labels_that_come_once_the_example_is_left_out_are_labels(examined):
    code, _, record, requests = examined(Mended)
    assert code == 0
    found = [(w["copied"], w["right"], w["mended"]) for w in record["labels"]]
    assert found == [(6, 0, 6), (12, 0, 12), (10, 0, 10)]
    # What several ways ask in the end is asked once.
    assert requests <= 40 + 12


def test_labels_that_collapse_are_seen_and_features_asked_about_alone(examined):
    code, shown, record, _ = examined(Collapsing)
    assert code == 0
    found = [(w["alike"], w["right"], w["mended"]) for w in record["labels"]]
    assert found == [(0, 6, 0), (12, 0, 12), (10, 0, 10)]
    assert "--features-per-request 1 " in shown


def test_replies_of_a_trial_are_paid_for_once(cli, tmp_path):
    with FakeServer(Model()) as server:
        assert cli("doctor", *flags_of(server, tmp_path))[0] == 0
        before = len(server.requests)
        code, shown, _ = cli("doctor", *flags_of(server, tmp_path))
        # The few short requests that find out what the endpoint takes are not journaled.
        assert len(server.requests) - before <= 3
    assert code == 0
    assert "28 of them from the journal" in shown
    assert max(server.served.values()) <= 2
    assert not re.search(r"^speed: (not known|0 prompt)", shown, re.MULTILINE)


def run_flags(server, planted, out):
    return [
        *flags_of(server, out), "--coder", str(planted.coder), "--cache", str(planted.cache),
        "--features", "0-2", "--scorers", "detection", "--detection-windows", "4",
    ]  # fmt: skip


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_run_asks_before_it_pays_a_judge_that_knows_nothing(cli, planted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with FakeServer(Coin()) as server:
        flags = run_flags(server, planted, out)
        code, _, said = cli("run", *flags, "--auto")
        assert code == 2
        assert AT_CHANCE in said.splitlines()[-1]
        assert said.splitlines()[-1].endswith("(--yes continues anyway)")
        tried = len(server.requests)
        # What is known needs no second trial, with --auto or without.
        for more in ([], ["--auto"]):
            assert cli("run", *flags, *more)[0] == 2
        monkeypatch.setattr("sys.stdin", _Terminal("n\n"))
        code, _, said = cli("run", *flags)
        assert code == 2
        assert "Continue anyway? [y/N]" in said
        assert len(server.requests) == tried
        assert not (out / "labels.parquet").exists()
        # It labels well enough, so labels alone may be had of it.
        monkeypatch.setattr("sys.stdin", io.StringIO())
        assert cli("collect", *flags)[0] == 0
        assert cli("label", *flags)[0] == 0
        assert cli("score", *flags)[0] == 2
        monkeypatch.setattr("sys.stdin", _Terminal("y\n"))
        assert cli("score", *flags)[0] == 0
        monkeypatch.setattr("sys.stdin", io.StringIO())
        # Nothing is left to be asked.
        assert cli("run", *flags)[0] == 0
        assert cli("run", *flags, "--yes")[0] == 0


class Weak(Counting, Collapsing):
    """Counts in lists, and gives one label to all features of a request."""


def test_auto_uses_what_was_found_and_what_is_given_goes_first(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(Weak()) as server:
        flags = run_flags(server, planted, out)
        code, _, said = cli("run", *flags, "--auto")
        assert code == 0, said
        assert "--auto: --features-per-request 1 --judge-form booleans --judge-items 24" in said
        used = json.loads((out / "run.json").read_text())["config"]
        assert (used["features_per_request"], used["judge_form"]) == (1, "booleans")
        asked = len(server.requests)
        code, _, said = cli("run", *flags, "--auto")
        assert (code, len(server.requests)) == (0, asked)
        assert "label: already done" in said
        assert "score: already done" in said
        # The same in settings that were given; the trial that is kept fits these as well.
        code, _, said = cli("run", *flags, "--auto", "--features-per-request", "1")
        assert (code, len(server.requests)) == (0, asked)
        code, _, said = cli("label", *flags, "--auto", "--features-per-request", "2", "--yes")
        assert code == 0, said
        assert json.loads((out / "run.json").read_text())["config"]["features_per_request"] == 2
        code, _, said = cli("score", *flags)
        assert code == 2
        assert "--auto would do better: --features-per-request 1" in said


def test_a_judge_of_rules_is_tried_before_it_is_paid(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(Coin()) as server:
        rules = [*run_flags(server, planted, out), "--labeler", "lexical"]
        assert cli("run", *rules)[0] == 0
        assert not server.requests
        # Who judges is tried, though it labels nothing.
        code, _, said = cli("run", *rules, "--judge", "llm", "--auto")
        assert code == 2
        assert AT_CHANCE in said.splitlines()[-1]
        assert "planted concepts" not in said.splitlines()[-1]
        tried = len(server.requests)
        assert cli("score", *rules, "--judge", "llm")[0] == 2
        assert len(server.requests) == tried
        assert cli("score", *rules, "--judge", "llm", "--yes")[0] == 0
        assert set(load_scores(out)["judge"]) == {"test-model"}


def test_settings_for_two_models_are_not_chosen_by_trying_one(cli, planted, tmp_path):
    out = tmp_path / "out"
    local = ["--judge", "local", "--local-model", str(tmp_path / "model")]
    with FakeServer(Model()) as server:
        flags = [*run_flags(server, planted, out), *local]
        code, _, said = cli("run", *flags, "--auto")
        assert code == 2
        assert said.count("\n") == 1
        assert "test-model labels and" in said
        assert "model judges: run `autointerp doctor` on each" in said
        assert not server.requests
        # A stage that asks one of them has one to try.
        assert cli("collect", *flags)[0] == 0
        code, _, said = cli("label", *flags, "--auto")
        assert code == 0, said
        assert "--auto: --features-per-request" in said
        assert not (tmp_path / "model").exists()


def test_a_trial_goes_beside_a_batch_that_is_pending(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(Model()) as server:
        flags = run_flags(server, planted, out)
        assert cli("collect", *flags)[0] == 0
        journal = Journal.open(out / "journal.sqlite")
        row = ("name", "batch-0", "test-model", 1, 0.0, "pending", 0.0)
        journal.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
        journal.close()
        code, _, said = cli("doctor", *flags)
        assert code == 0, said
        # What the batch was asked is not asked beside it.
        code, _, said = cli("label", *flags)
        assert code == 2
        assert "a pending batch" in said


def test_a_trial_of_other_templates_or_settings_is_not_used(cli, planted, copied):
    shown = with_example(copied.path)
    mine = copied.path / "mine"
    shutil.copytree(copied.path / "prompts", mine)
    text = (BUNDLED / "fuzzing.jinja").read_text()
    (mine / "fuzzing.jinja").write_text(text.replace("Description", "Label"))
    with FakeServer(Copying()) as server:
        flags = [*run_flags(server, planted, copied.path), *shown]
        cli("doctor", *flags_of(server, copied.path), *shown)
        assert cli("label", *flags)[0] == 2
        code, _, said = cli("label", *flags, "--temperature", "1")
        assert code == 0
        assert "test-model has not been tested" in said
        own = ["--prompts", str(mine), "--dry-run", "--auto"]
        code, _, said = cli("label", *flags, *own)
        assert code == 0
        assert "test-model has not been tested, so --auto has no effect" in said


@pytest.mark.parametrize("text", ["{}", "[1", "\udcff"])
def test_a_record_that_is_none_is_named(cli, planted, copied, text):
    copied.trial.write_text(text, errors="surrogateescape")
    with FakeServer(Model()) as server:
        flags = run_flags(server, planted, copied.path)
        code, _, said = cli("run", *flags)
        assert code == 2
        assert len(said.splitlines()) == 1
        assert f"{copied.trial} cannot be read" in said
        assert "doctor --model" in said
        assert not server.requests
        if text == "{}":
            assert "doctor.json was damaged" in cli("repair", str(copied.path))[1]
            copied.trial.write_text(text)
            # The doctor itself needs no record.
            code, _, said = cli("doctor", *flags_of(server, copied.path))
            assert code == 0
            assert f"{copied.trial} is replaced" in said
