"""Runs whose labels, or judgments, a model on this machine writes: no key, no server."""

import importlib.util
import json

import pytest

import autointerp
from autointerp.llm.journal.journal_file import export
from autointerp.runs.directory import Run
from autointerp.scoring.scorers.on_device import identity
from tests.support.local_model import write_local_model

FEW = ["--features", "0-1", "--features-per-request", "1"]
# Read from the prompt's probabilities, as the model's own lists make no sense.
FEW += ["--scorers", "simulation", "--simulation-windows", "2", "--null-share", "0"]
# Where the model does not find the end of a phrase.
FEW += ["--extra-body", '{"max_tokens": 200}']


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_local_model(tmp_path_factory.mktemp("model") / "tiny-chat")


@pytest.fixture(autouse=True)
def _without_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def asked(out):
    stages = json.loads((out / "run.json").read_text())["stages"]
    return [stages[name]["asked"] for name in ("label", "score") if "asked" in stages[name]]


def test_a_run_needs_no_key_and_asks_for_nothing_twice(cli, planted, folder, tmp_path):
    out = tmp_path / "out"
    flags = [*planted.flags(out), *FEW, "--labeler", "local", "--local-model", str(folder)]
    code, _, said = cli("run", *flags)
    assert code in (0, 1), said
    assert "Traceback" not in said
    name = identity(str(folder))
    assert name.startswith("tiny-chat@")
    labels = autointerp.load_labels(out)
    assert sorted(labels["feature"]) == [0, 1]
    assert set(labels["labeler"]) == {name}
    assert labels["label"].notna().any(), list(labels["error"])
    assert (labels["cost_usd"] == 0).all()
    assert set(autointerp.load_scores(out)["judge"]) == {name}
    replies = list(export(out / "journal.sqlite"))
    assert {reply["model"] for reply in replies} == {name}

    before = asked(out)
    assert sum(totals["requests"] for totals in before) == len(replies)
    Run(out).forget_stages("label", "score")
    again = cli("run", *flags)
    assert again[0] == code, again[2]
    # All but what was of no use is found in the journal.
    after = asked(out)
    assert [totals["requests"] for totals in after] == [0, 0]
    assert sum(totals["from_journal"] for totals in after) >= len(replies) - before[0]["unread"]


def test_a_local_model_judges_what_rules_have_labeled(cli, planted, folder, tmp_path):
    out = tmp_path / "out"
    rules = [*planted.flags(out), *FEW, "--labeler", "lexical"]
    judged = ["--judge", "local", "--local-model", str(folder)]
    assert cli("run", *rules)[0] == 0
    assert set(autointerp.load_scores(out)["judge"]) == {"lexical"}
    code, _, said = cli("run", *rules, *judged)
    assert code == 0, said
    assert "label: already done" in said
    assert set(autointerp.load_labels(out)["labeler"]) == {"lexical"}
    assert set(autointerp.load_scores(out)["judge"]) == {identity(str(folder))}
    recorded = json.loads((out / "run.json").read_text())["config"]
    assert (recorded["labeler"], recorded["judge"]) == ("lexical", "local")
    code, _, said = cli("run", *rules, *judged)
    assert code == 0
    assert "score: already done" in said, said


def test_dry_runs_and_doctor_take_a_local_model(cli, planted, folder, tmp_path):
    flags = [*planted.flags(tmp_path / "out"), *FEW, "--local-model", str(folder)]
    code, _, said = cli("run", *flags, "--dry-run")
    assert code == 0, said
    assert "label: 2 requests" in said
    assert "by its tokenizer" in said
    assert "about $0.0000" in said
    _, shown, said = cli("doctor", *flags)
    assert "Traceback" not in said
    assert identity(str(folder)) in shown
    # It is this process that gives the probabilities, so none of them is missing.
    tried = json.loads((tmp_path / "out" / "doctor.json").read_text())
    assert tried["model"] == identity(str(folder))
    assert not {"probabilities", "prompt_logprobs"} & set(tried["not_given"])


def one_line(result):
    code, _, said = result
    assert code == 2, said
    assert said.count("\n") == 1, said
    return said


def test_a_model_that_cannot_be_had_is_said_before_anything_is_done(cli, planted, tmp_path):
    out = tmp_path / "out"
    flags = [*planted.flags(out), *FEW, "--labeler", "local"]
    said = one_line(cli("run", *flags))
    assert "Qwen/Qwen3-4B-Instruct-2507 is not on this machine and cannot be downloaded" in said
    assert "give a local folder or .gguf file" in said
    no_folder = one_line(cli("run", *flags, "--local-model", str(tmp_path / "no" / "model")))
    assert "no such file or folder" in no_folder
    assert "no config.json" in one_line(cli("run", *flags, "--local-model", str(tmp_path)))
    (tmp_path / "x.bin").write_bytes(b"x")
    no_model = one_line(cli("run", *flags, "--local-model", str(tmp_path / "x.bin")))
    assert "must end in .gguf" in no_model
    base = write_local_model(tmp_path / "base", template=None)
    assert "no chat template" in one_line(cli("run", *flags, "--local-model", str(base)))
    assert not out.exists()
    broken = write_local_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"x" * 100)
    assert "cannot be loaded" in cli("run", *flags, "--local-model", str(broken))[2]


def test_without_the_extra_it_is_named(cli, planted, folder, tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "llguidance" else there(name)
    )
    flags = [*planted.flags(tmp_path / "out"), *FEW, "--local-model", str(folder)]
    assert "pip install 'autointerp[local]'" in one_line(cli("run", *flags))


def test_settings_that_do_not_go_together_are_said(cli, planted, tmp_path):
    flags = planted.flags(tmp_path / "out")
    assert "judge llm needs a model" in one_line(cli("run", *flags, "--judge", "llm"))
    said = one_line(cli("run", *flags, "--labeler", "local", "--batch"))
    assert "batch needs an endpoint" in said
