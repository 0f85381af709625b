"""A command offers what it uses, takes what all of them take, and names its run one way."""

import json
import re
import subprocess
import sys

import pytest
from typer.main import get_command

from autointerp.cli.main import app
from autointerp.config.settings import all_settings, preferred
from autointerp.scoring import SCORERS


def plain(printed):
    return " ".join(printed.replace("│", " ").split())


def commands():
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        yield from [(name,)] if inner is None else [(name,), *((name, one) for one in inner)]


@pytest.mark.parametrize("names", [(), *commands()], ids=" ".join)
def test_help_begins_with_an_example(cli, names):
    code, out, err = cli(*names, "--help")
    assert (code, err) == (0, "")
    first = plain(out[out.index("Example") :])
    assert first.startswith("Example: autointerp " + " ".join(names))
    assert plain(out).index("Example: ") < plain(out).index("─ Options")


def test_a_command_shows_what_it_uses_and_all_of_it_when_asked(cli):
    _, helped, _ = cli("capture", "--help")
    assert len(helped.splitlines()) <= 100
    shown = set(re.findall(r"--([a-z][a-z-]+)", helped))
    assert {"subject", "hook", "text", "packing", "device", "cache", "help-all"} <= shown
    assert not [name for name in SCORERS if name in helped]
    assert "--packing [concatenated|documents] " in plain(helped)
    assert "[default: concatenated]" in plain(helped)
    assert "temperature" not in helped
    _, everything, _ = cli("capture", "--help-all")
    options = set(re.findall(r"--([a-z][a-z0-9-]*)", everything))
    assert {preferred(name).replace("_", "-") for name in all_settings()} <= options
    _, helped, _ = cli("score", "--help")
    for choices in ("[auto|prompt_logprobs|top_logprobs|json]", "[auto|llm|local]"):
        assert choices in "".join(helped.replace("│", " ").split())
    assert f"Available: {', '.join(SCORERS)}." in plain(helped)
    assert "--packing" in helped


def test_one_set_of_flags_serves_all_commands(cli, planted, tmp_path):
    flags = [*planted.flags(tmp_path / "out"), "--fade-texts", "3", "--budget", "1"]
    for command in ("collect", "label", "score", "run", "doctor"):
        code, _, said = cli(command, *flags, "--scorers", "detection")
        assert code == 0, said
    assert cli("prompt", "check", *flags)[0] == 0
    config = json.loads((tmp_path / "out/run.json").read_text())["config"]
    assert (config["fade_texts"], config["budget"], config["fade_windows"]) == (3, 1.0, 20)


def test_a_run_is_named_one_way_everywhere(cli, planted, tmp_path):
    source = planted.flags(tmp_path)[:-2]
    for i, named in enumerate((["{}"], ["--run", "{}"], ["--out", "{}"])):
        out = tmp_path / str(i)
        words = [word.format(out) for word in named]
        assert cli("collect", *words, *source)[0] == 0
        assert (out / "windows.parquet").is_file()
        code, _, said = cli("label", *words, *source)
        assert code == 0, said
    out = str(tmp_path / "0")
    for command in (
        *(["labels"], ["show", "1"], ["journal", "info"], ["scores"], ["plot"], ["report"]),
        *(
            ["export", "jsonl", "--features", "99"],
            ["compare", out],
            ["repair"],
            ["prompt", "show", "label"],
        ),
    ):
        flags = source if command[0] == "prompt" else []
        positional = cli(*command, out, *flags)
        assert "Traceback" not in positional[2]
        if command[0] != "compare":
            assert cli(*command, "--run", out, *flags)[0] == positional[0], command
    code, _, said = cli("labels", out, "--run", str(tmp_path / "1"))
    assert (code, f"two runs were given, {out} and {tmp_path / '1'}: give one" in said) == (2, True)
    code, _, said = cli("collect", out, "--out", str(tmp_path / "1"), *source)
    assert (code, "two runs were given" in said) == (2, True)
    assert cli("labels", out, "--run", out)[0] == 0
    assert "repair needs a run" in cli("repair")[2]


def test_a_misspelled_variable_is_named(cli, planted, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOINTERP_MODLE", "m")
    code, _, said = cli("collect", *planted.flags(tmp_path / "out"))
    assert (code, len(said.splitlines())) == (2, 1)
    assert "environment variable AUTOINTERP_MODLE" in said
    assert "did you mean AUTOINTERP_MODEL?" in said
    monkeypatch.setenv("AUTOINTERP_API_KEY_ENV", "AUTOINTERP_MODLE")
    assert cli("prompt", "list")[0] == 0  # it holds a key


def test_the_shell_completes():
    def completed(words):
        asked = {"_AUTOINTERP_COMPLETE": "complete_bash", "COMP_WORDS": words}
        asked |= {"COMP_CWORD": str(len(words.split(" ")) - 1), "PYTHONPATH": ":".join(sys.path)}
        main = "from autointerp.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", main], env=asked, stdout=subprocess.PIPE, text=True, check=False
        )
        return done.stdout.split()

    assert completed("autointerp cap") == ["capture"]
    assert completed("autointerp capture --packing doc") == ["documents"]
    assert "--context-length" in completed("autointerp capture --con")


def test_an_sae_is_given_by_either_name(cli, planted, tmp_path):
    shown = plain(cli("collect", "--help")[1])
    assert "--sae" in shown
    assert "--coder" not in shown
    for flag in ("--sae", "--coder"):
        flags = [flag, str(planted.coder), f"{flag}-format", "saelens"]
        out = str(tmp_path / flag)
        code, _, said = cli("collect", out, *flags, "--cache", str(planted.cache))
        assert code == 0, said
    code, _, said = cli("collect", str(tmp_path / "x"), "--coder-format", "nonsense")
    assert (code, "--sae-format nonsense" in said) == (2, True)
