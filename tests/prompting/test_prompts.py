"""Templates on the command line, and what a run keeps of them."""

import hashlib
import json
from pathlib import Path

import pytest

from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.scoring import SCORERS
from autointerp.stages.show_prompts import TEMPLATES
from tests.support import scripted
from tests.support.fake_server import FakeServer

NAMES = list(TEMPLATES)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@pytest.fixture
def folder(tmp_path):
    """A folder with one template of the user's own."""
    made = tmp_path / "mine"
    made.mkdir()
    source = (BUNDLED / "detection.jinja").read_text()
    (made / "detection.jinja").write_text(source.replace("You are given", "Here is"))
    return made


def flags_of(server, planted, out):
    flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "4"]
    return [*flags, *planted.flags(out)]


def test_list_says_whose_each_template_is(cli, folder):
    code, printed, _ = cli("prompt", "list", "--prompts", str(folder))
    rows = {line.split()[0]: line.split(maxsplit=4) for line in printed.splitlines()}
    assert code == 0
    assert list(rows) == NAMES
    assert [rows[task][1] for task in NAMES] == [
        "yours" if task == "detection" else "package" for task in NAMES
    ]
    for task in NAMES:
        prompt = load_prompt(task, folder)
        assert rows[task][2:4] == [prompt.hash[:12], str(prompt.path)]
    assert rows["detection"][4] == "Asks which windows a label matches. Variables:"


def test_check_tries_each_template_and_says_what_is_odd(cli, folder):
    code, printed, _ = cli("prompt", "check", str(folder))
    assert code == 0
    assert [line.split(":")[0] for line in printed.splitlines()] == NAMES
    assert "warning" not in printed

    (folder / "lable.jinja").write_text("")
    (folder / "mystery.j2").write_text("")
    (folder / "notes.md").write_text("")
    (folder / "simulation.jinja").write_text(
        "before {% block system %}{{ label }}{% endblock %}"
        "{% block user %}{% for w in windows %}{{ w.number }}{% endfor %}{% endblock %}"
    )
    code, printed, _ = cli("prompt", "check", "--prompts", str(folder))
    assert code == 0
    for said in (
        "lable.jinja is not the template of any task and is ignored: did you mean label.jinja?",
        "mystery.j2 is not the template of any task",
        "simulation.jinja: it never uses 'tokens'",
        "its system block uses 'label'",
        "it has text outside its blocks",
        'it does not ask for "windows"',
    ):
        assert said in printed
    assert printed.count("warning") == 6

    (folder / "label.jinja").write_text("{% block user %}{{ x }}{% endblock %}")
    code, printed, _ = cli("prompt", "check", str(folder))
    assert code == 1
    assert f"label: broken: template {folder / 'label.jinja'} has no block 'system'" in printed
    assert "label        package  broken" not in printed
    assert "broken" in cli("prompt", "list", "--prompts", str(folder))[1]
    assert cli("prompt", "check", "/nowhere")[0] == 2


def test_a_misspelled_template_is_said_when_the_run_begins(cli, planted, folder, tmp_path):
    (folder / "lable.jinja").write_text("")
    with FakeServer(scripted.answer) as server:
        flags = [*flags_of(server, planted, tmp_path / "out"), "--prompts", str(folder)]
        _, _, said = cli("collect", *flags)
    assert "did you mean label.jinja?" in said


def test_diff_shows_what_the_user_changed(cli, folder, tmp_path):
    code, printed, _ = cli("prompt", "diff", "--prompts", str(folder))
    assert code == 0
    assert f"--- {BUNDLED / 'detection.jinja'}" in printed
    assert "-You are given" in printed
    assert "+Here is" in printed
    assert "simulation" not in printed
    (folder / "detection.jinja").write_text((BUNDLED / "detection.jinja").read_text())
    assert cli("prompt", "diff", "--prompts", str(folder))[1] == "detection: the same\n"
    (folder / "detection.jinja").unlink()
    assert "no templates of yours" in cli("prompt", "diff", "--prompts", str(folder))[1]
    assert cli("prompt", "diff", "one")[0] == 2


def test_runs_keep_their_templates_and_an_edit_redoes_only_what_depends_on_it(
    cli, planted, folder, tmp_path
):
    one, two = tmp_path / "one", tmp_path / "two"
    with FakeServer(scripted.answer) as server:
        assert cli("run", *flags_of(server, planted, one))[0] == 0
        flags = [*flags_of(server, planted, two), "--prompts", str(folder)]
        assert cli("run", *flags)[0] == 0
        for run, where in ((one, tmp_path), (two, folder)):
            record = json.loads((run / "run.json").read_text())["prompts"]
            ways = ["simulation_prompt_logprobs", "simulation_top_logprobs", "simulation"]
            assert list(record) == ["label", "detection", *ways]
            for task, digest in record.items():
                kept = (run / "prompts" / f"{task}-{digest[:12]}.jinja").read_bytes()
                assert hashlib.sha256(kept).hexdigest() == digest
                assert kept == load_prompt(task, where).path.read_bytes()
        code, printed, _ = cli("prompt", "diff", str(one), str(two))
        assert code == 0
        assert "label: the same" in printed
        assert "+Here is" in printed

        # An edited template: its stage alone runs again, the old text stays beside the new one.
        (folder / "detection.jinja").write_text((BUNDLED / "detection.jinja").read_text() + " ")
        sent = len(server.requests)
        _, _, said = cli("run", *flags)
        assert "label: already done" in said
        assert "score: already done" not in said
        assert {"match" in r["messages"][0]["content"] for r in server.requests[sent:]} == {True}
        assert len(list((two / "prompts").glob("detection-*.jinja"))) == 2
        assert "the same" in cli("prompt", "diff", str(one), str(two))[1]

        sent = len(server.requests)
        source = (BUNDLED / "label.jinja").read_text()
        (folder / "label.jinja").write_text(source.replace("You explain", "Explain"))
        _, _, said = cli("run", *flags)
        assert "collect: already done" in said
        assert "label: already done" not in said
        # The labels came out the same, so their scores still hold.
        again = {r["messages"][0]["content"][:7] for r in server.requests[sent:]}
        assert again == {"Explain"}


def test_show_prints_what_is_sent_for_every_task(cli, planted, tmp_path):
    with FakeServer(scripted.answer) as server:
        flags = [*flags_of(server, planted, tmp_path / "out"), "--features", "3,4,6,7,12"]
        flags += ["--scorers", ",".join(name for name, s in SCORERS.items() if s.task)]
        flags += ["--score-windows", "50"]
        assert cli("collect", *flags)[0] == 0
        before = {task: cli("prompt", "show", task, *flags)[1] for task in NAMES}
        assert not server.requests
        assert cli("run", *flags)[0] == 0
        after = {task: cli("prompt", "show", task, *flags)[1] for task in NAMES}
    sent = {m["content"] for r in server.requests for m in r["messages"]}
    for task in ("label", *(name for name, s in SCORERS.items() if s.task)):
        parts = after[task].split("--- user ---\n")[1:]
        assert len(parts) == (1 if task == "label" else 4)
        for part in parts:
            if task == "fade_texts":  # which a run of a cache has no use for
                assert part.startswith("Description: ba")
                continue
            assert part.split("\n--- system ---")[0].split("\n(no request")[0] in sent
        assert "(no request for feature 12" in before[task]
        assert ("in place of the one to come" in before[task]) == (
            task not in ("label", "intruder")
        )
    assert before["label"] == after["label"]
    # Nothing is sent of what a model on this machine reads: the template, then each window.
    assert after["surprisal"].count("--- window ---") == 4 * 40
    assert "in place of the one to come" in before["surprisal"]


def test_show_knows_the_tasks(cli, planted, tmp_path):
    code, _, said = cli("prompt", "show", "lable", *planted.flags(tmp_path / "out"))
    assert code == 2
    assert "not a task; tasks are label, detection, simulation" in said


def test_a_kept_template_that_is_lost_is_said(cli, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text('{"prompts": {"label": "0123456789abcdef"}}')
    code, _, said = cli("prompt", "diff", str(tmp_path / "a"), str(tmp_path / "b"))
    assert code == 2
    assert str(Path("prompts/label-0123456789ab.jinja")) in said
