"""What a user can get wrong: one line, status 2, nothing spent and no file touched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import autointerp
from autointerp.cli.main import app
from autointerp.plain_text import listed
from autointerp.runs.directory import Run
from tests.coders.test_coder import write_saelens
from tests.support import scripted
from tests.support.fake_server import FakeServer, status


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@pytest.fixture
def refused(cli, tmp_path):
    """Run a command that must be refused: returns its one line, having seen that it did nothing."""

    def command(*arguments: str, out: Path | None = None) -> str:
        code, printed, said = cli(*arguments)
        lines = [line for line in said.splitlines() if line]
        assert code == 2, (printed, said)
        assert len(lines) == 1, said
        assert lines[0].startswith("autointerp: ")
        assert "Traceback" not in said
        assert out is None or not out.exists()
        return lines[0]

    return command


def test_a_missing_key(refused, planted, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    flags = planted.flags(tmp_path / "out")
    said = refused("run", "--model", "gpt-4o-mini", *flags, out=tmp_path / "out")
    assert "set the environment variable OPENAI_API_KEY" in said
    said = refused("run", "--model", "m", "--api-key-env", "MY_KEY", *flags, out=tmp_path / "out")
    assert "MY_KEY" in said


def test_an_unreachable_endpoint(refused, planted, tmp_path):
    with FakeServer(scripted.answer) as server:
        url = server.url
    flags = ["--model", "m", "--base-url", url, *planted.flags(tmp_path / "out")]
    assert f"endpoint {url} cannot be reached" in refused("run", *flags, out=tmp_path / "out")


def test_an_unknown_model_in_the_servers_words(refused, planted, tmp_path):
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "nope", "--base-url", server.url, *planted.flags(tmp_path / "out")]
        said = refused("run", *flags, out=tmp_path / "out")
    assert "The model `nope` does not exist" in said
    assert not server.served


def test_a_refused_key_in_the_servers_words(refused, planted, tmp_path):
    with FakeServer(scripted.answer, api_key="other") as server:
        flags = ["--model", "m", "--base-url", server.url, *planted.flags(tmp_path / "out")]
        assert "Incorrect API key provided" in refused("run", *flags, out=tmp_path / "out")


def test_a_key_that_is_revoked_on_the_way_stops_the_run_and_loses_nothing(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, *planted.flags(out)]
        server.faults = lambda _r, _s, index: status(401, "key revoked") if index > 5 else None
        code, _, said = cli("run", *flags)
        assert code == 2
        assert said.splitlines()[-1].endswith("status 401: key revoked")
        served = server.served.total()
        server.faults = None
        assert cli("run", *flags)[0] == 0
    assert served > 0
    assert max(server.served.values()) == 1


def test_a_broken_template(refused, planted, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "label.jinja").write_text("{% block system %}{{ nothing }}{% endblock %}")
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, "--prompts", str(prompts)]
        said = refused("run", *flags, *planted.flags(tmp_path / "out"), out=tmp_path / "out")
    assert f"template {prompts / 'label.jinja'}" in said
    assert not server.requests


def test_a_coder_of_another_width_than_the_cache(refused, planted, tmp_path):
    write_saelens(tmp_path / "sae", "standard")
    flags = ["--coder", str(tmp_path / "sae"), "--cache", str(planted.cache)]
    said = refused("run", *flags, "--out", str(tmp_path / "out"), out=tmp_path / "out")
    assert "takes activations of width 6" in said
    assert "gives width 90" in said


def test_an_empty_and_a_missing_cache(refused, planted, tmp_path):
    flags = ["--coder", str(planted.coder), "--out", str(tmp_path / "out")]
    said = refused("run", *flags, "--cache", str(tmp_path / "none"), out=tmp_path / "out")
    assert "no activation cache at" in said
    empty = tmp_path / "empty"
    empty.mkdir()
    manifest = json.loads((planted.cache / "manifest.json").read_text())
    (empty / "manifest.json").write_text(json.dumps(manifest | {"contexts": 0, "tokens": 0}))
    said = refused("run", *flags, "--cache", str(empty), out=tmp_path / "out")
    assert "is empty" in said


def test_an_output_that_cannot_be_written(refused, planted, tmp_path):
    (tmp_path / "file").write_text("")
    said = refused("run", *planted.flags(tmp_path / "file" / "out"))
    assert "cannot be written" in said


def test_two_runs_on_one_directory(refused, planted, tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from autointerp.runs.directory import Run\n"
            "with Run(Path(sys.argv[1])).locked():\n"
            "    print('held', flush=True); sys.stdin.read()",
            str(tmp_path / "out"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    said = refused("run", *planted.flags(tmp_path / "out"))
    assert f"another autointerp (process {holder.pid}) is working on" in said
    holder.communicate()
    with Run(tmp_path / "out").locked():
        pass


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--features", "0-99"], "feature 99 does not exist; the SAE has features 0 to 13"),
        (["--features", "@none"], "no such file: none"),
        (["--concurrency", "0"], "setting concurrency"),
        (["--scorers", "magic"], "there is no scorer 'magic'"),
        (["--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["--coder", "/nowhere"], "SAE /nowhere: no such file"),
        (["--config", "/nowhere.toml"], "config /nowhere.toml: no such file"),
        (["--dry-run"], "this run makes none: pass --model"),
    ],
)
def test_bad_settings(refused, planted, tmp_path, flags, said):
    found = refused("run", *planted.flags(tmp_path / "out"), *flags, out=tmp_path / "out")
    assert said in found


def test_a_later_stage_alone_needs_the_earlier_ones(cli, refused, planted, tmp_path):
    flags = planted.flags(tmp_path / "a")
    assert "`autointerp collect` first" in refused("label", *flags)
    assert "`autointerp collect` first" in refused("score", *flags)
    assert cli("collect", *flags)[0] == 0
    assert "`autointerp label` first" in refused("score", *flags)


def test_capture_needs_text_and_a_subject(refused, planted, tmp_path):
    flags = ["--coder", str(planted.coder), "--out", str(tmp_path / "out")]
    assert "--text" in refused("run", *flags, "--subject", "x", out=tmp_path / "out")
    assert "--subject" in refused("run", *flags, "--text", "x", out=tmp_path / "out")


def _demo_of(tmp_path, **flags):
    given = {"text": "demo", "subject": "demo", "coder": "demo", "tokens": "2000"} | flags
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", "nowhere.jsonl"),
        ("subject", "nowhere"),
        ("coder", "nowhere"),
        ("cache", "nowhere"),
        ("hook", "nowhere"),
    ],
)
def test_a_wrong_path_leaves_no_run_behind(refused, tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    flags = _demo_of(tmp_path, **{name: value})
    if name == "cache":
        flags = ["--coder", "demo", "--cache", value]
    for command in ("run", "collect"):
        refused(command, *flags, "--out", "outputs/new", out=tmp_path / "outputs/new")
    assert "no run in outputs/" in refused("labels")


def test_the_latest_run_is_one_with_results(cli, finished, tmp_path, monkeypatch):
    (tmp_path / "outputs").mkdir()
    shutil.copytree(finished.path, tmp_path / "outputs" / "good")
    monkeypatch.chdir(tmp_path)
    begun = Run(Path("outputs/begun"))
    begun.path.mkdir()
    begun.update(config={})
    os.utime(begun.manifest, (2**32, 2**32))
    assert cli("show", "3")[0] == 0
    shutil.rmtree("outputs/good")
    code, _, said = cli("show", "3")
    assert (code, "has any results yet (the latest is outputs/begun)" in said) == (2, True)


def test_a_feature_that_was_not_drawn_is_said_with_those_that_were(cli, refused, planted, tmp_path):
    out = tmp_path / "out"
    assert cli("run", *planted.flags(out), "--features", "random:3")[0] == 0
    drawn = autointerp.load_labels(out)["feature"].tolist()
    other = next(f for f in range(14) if f not in drawn)
    said = refused("show", str(other), "--run", str(out))
    assert f"feature {other} was not selected" in said
    assert f"random:3 with seed 0, which are {listed(drawn)}" in said
    code, printed, told = cli("report", str(out), "--features", "0-13,40")
    assert code == 0
    assert "3 features in" in printed
    assert "skipping 12 of the features 0-13,40: not collected" in told
    assert "none of them was collected" in refused("report", str(out), "--features", "90-99")


def test_questions_about_runs_that_are_not_there(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no run in outputs/" in refused("labels")
    assert "no run in outputs/" in refused("show", "3")
    assert "no run at nothing" in refused("labels", "--run", "nothing")


def test_the_table_is_shown_sorted_and_searched(cli, refused, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, *planted.flags(out)]
        assert cli("run", *flags)[0] == 0
    code, printed, _ = cli("labels", "--run", str(out), "--sort", "density", "--limit", "3")
    assert code == 0
    assert "3 of 14 rows" in printed
    code, printed, _ = cli("labels", "--run", str(out), "--grep", "^ba")
    assert "bafi" in printed
    assert "runi" not in printed.replace("bade runi", "")
    assert "choose one of" in refused("labels", "--run", str(out), "--sort", "magic")
    assert "is not a regular expression" in refused("labels", "--run", str(out), "--grep", "(")

    code, printed, _ = cli("show", "1", "--run", str(out))
    assert code == 0
    for expected in ("bafi", "detection balanced accuracy", "fires on", "largest activations"):
        assert expected in printed
    assert "feature 99 was not collected" in refused("show", "99", "--run", str(out))


def test_every_command_explains_itself(cli):
    commands = get_command(app).commands
    inner = [(n, r) for n, c in commands.items() for r in getattr(c, "commands", {})]
    asked = [(), *((name,) for name in commands), *inner]
    assert {("prompt", name) for name in ("list", "show", "check", "diff")} <= set(asked)
    for names in asked:
        code, out, err = cli(*names, "--help")
        assert (code, err) == (0, "")
        assert "Usage: autointerp" in out
    out = " ".join(cli("run", "--help")[1].replace("│", " ").split())
    assert "hf:owner/dataset[/configuration][:split]" in out.replace(" ", "")


def test_config_prints_a_template(cli, tmp_path):
    code, printed, _ = cli("config")
    assert code == 0
    (tmp_path / "run.toml").write_text(printed)
    assert '# features = "all"' in printed


def test_scores_are_shown_beside_their_null_and_by_strength(cli, refused, planted, tmp_path):
    out = tmp_path / "out"
    assert "has not finished that stage" in refused("scores", "--run", str(_empty_run(tmp_path)))
    assert cli("run", *planted.flags(out))[0] == 0
    code, shown, said = cli("scores", "--run", str(out))
    assert code == 0, said
    assert "balanced accuracy" in shown
    assert "said yes, by activation" in shown
    assert "90–100 %" in shown
    assert "similar" in shown


def _empty_run(folder):
    empty = folder / "empty"
    empty.mkdir()
    (empty / "run.json").write_text("{}")
    return empty
