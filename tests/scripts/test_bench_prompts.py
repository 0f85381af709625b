"""scripts/bench_prompts.py against a server that knows what is asked of it."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.samples import WITH_EXAMPLE

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_prompts.py"
COPIED = "last words of ferries' names in timetables"


@pytest.fixture(scope="module")
def bench():
    found = importlib.util.spec_from_file_location("bench_prompts", SCRIPT)
    module = importlib.util.module_from_spec(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        patch.setitem(sys.modules, "bench_prompts", module)  # dataclasses look their module up
        found.loader.exec_module(module)
        yield module


def copying(request):
    """As the scripted labeler does, but the example's label wherever the example is shown."""
    answer = scripted.answer(request)
    if scripted.asks_for_labels(request) and COPIED in request["messages"][0]["content"]:
        labels = json.loads(answer)["labels"]
        return json.dumps({"labels": [label | {"label": COPIED} for label in labels]})
    return answer


def measured(bench, server, run, out, monkeypatch, capsys, *more):
    flags = ["--base-url", server.url, "--model", "test-model", "--run", str(run.path)]
    templates = out.parent / "templates" / "label"
    templates.mkdir(parents=True, exist_ok=True)
    shutil.copy(WITH_EXAMPLE, templates)
    flags += ["--templates", str(templates.parent), "--per-request", "3", "--meanings", "5"]
    flags += ["--out", str(out), "--features", "6", "--windows", "4"]
    monkeypatch.setattr(sys, "argv", ["bench_prompts.py", *flags, *more])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")
    bench.main()
    table = [line.strip("| \n").split(" | ") for line in capsys.readouterr().out.splitlines()]
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    return {(row["variant"], row["schema"]): row for row in rows}, table


def test_a_judge_that_gives_an_example_back_shows_in_its_row(
    bench, finished, tmp_path, monkeypatch, capsys
):
    def example(request):
        system = request["messages"][0]["content"]
        return next((x for x in system.splitlines() if x.startswith("{")), None) or scripted.answer(
            request
        )

    with FakeServer(example) as server:
        asked = (bench, server, finished, tmp_path / "bench", monkeypatch, capsys)
        flags = ("--only", "fade,fuzzing", "--schemas", "yes", "--forms", "booleans")
        rows, _ = measured(*asked, *flags)
    assert set(rows) == {("fade", True), ("fuzzing (booleans)", True)}
    assert rows["fade", True]["copied"] == 1
    assert rows["fuzzing (booleans)", True]["copied"] == 0


def test_a_copied_example_shows_in_its_row_and_nothing_is_paid_twice(
    bench, finished, tmp_path, monkeypatch, capsys
):
    with FakeServer(copying) as server:
        asked = (bench, server, finished, tmp_path / "bench", monkeypatch, capsys)
        rows, table = measured(*asked, "--only", "label,intruder")
        sent = len(server.requests)
        again, _ = measured(*asked, "--only", "label,intruder")
        assert len(server.requests) == sent
    assert rows == again
    example = rows["label: one_example", True]
    assert (example["readable"], example["copied"], example["labeled"]) == (1, 1, 1)
    current = rows["label", False]
    assert (current["copied"], current["labeled"], current["identical"]) == (0, 1, 0)
    # Asked again without the example, the labeler names what is marked; the judge believes it.
    for row in (example, current):
        assert row["detection"]["mean"] > 0.3
        assert row["detection"]["n"] == 6
    assert rows["intruder", True]["score"]["mean"] > 0.5
    shown = [line[0] for line in table if line[0].startswith(("label", "intruder"))]
    assert sorted(shown) == sorted(name for name, _ in rows)
