"""Another package adds one of each kind: a file each, and for a scorer a template."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mypy import api as mypy

from autointerp import registry
from autointerp.activations.formats import find_cache
from autointerp.coders import load_coder
from autointerp.scoring import SCORERS
from autointerp.tables.exports.export_format import EXPORTS
from tests.support import scripted
from tests.support.fake_server import FakeServer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tests" / "data" / "other_package"
FILES = sorted((PACKAGE / "their_package").glob("[!_]*.*"))
RUN_EACH = """
import json, sys
from tests.conftest import run_command
print(json.dumps([run_command(*command) for command in json.load(sys.stdin)]))
"""


def with_package(*commands, package=PACKAGE, **environment):
    """(status, printed, said) of each command, run where the package is installed."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_EACH],
        input=json.dumps([[str(word) for word in command] for command in commands]),
        env={"PYTHONPATH": f"{ROOT}:{package}", "OPENAI_API_KEY": "k"} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answer(request):
    system, user = (message["content"] for message in request["messages"][:2])
    if '"ends"' not in system:
        return scripted.answer(request)
    words = set(re.search(r"^Description: (.*)$", user, re.MULTILINE)[1].split())
    lines = re.findall(r"^(\d+)\. (.*)$", user, re.MULTILINE)
    ends = [int(number) for number, text in lines if text.split()[-1] in words]
    return json.dumps({"ends": ends, "does_not": [int(n) for n, _ in lines if int(n) not in ends]})


@pytest.fixture(scope="module")
def runs(planted, tmp_path_factory):
    """By rules and by a model, with the scorer of the package."""
    folder = tmp_path_factory.mktemp("registry")
    own = ["--scorers", "detection,ending", "--ending-tokens", "2"]
    with FakeServer(answer) as server:
        model = ["--model", "test-model", "--base-url", server.url]
        rules, asked = folder / "rules", folder / "model"
        done = with_package(
            ["run", *planted.flags(rules), *own],
            ["run", *planted.flags(asked), *own, *model],
            ["run", *planted.flags(asked), *own, *model],
            ["run", *planted.flags(rules), "--scorers", "ending", "--ending-windows", "26"],
        )
    for status, _, said in done[:3]:
        assert status == 0, said
    assert "score: already done" in done[2][2]
    assert "ending_windows needs 26 activating windows" in done[3][2]
    return rules, asked


def test_a_scorer_is_one_file_and_one_template(runs):
    for out in runs:
        labels = pd.read_parquet(out / "labels.parquet")
        labeled = labels[labels["status"] == "labeled"]
        assert labeled["ending_accuracy"].min() > 0.9
        assert labeled["ending_recall"].min() > 0.9
        assert labeled["ending_null"].notna().any()
        assert labeled["ending_n"].max() == 12
        recorded = json.loads((out / "run.json").read_text())
        assert recorded["config"]["ending_tokens"] == 2
    assert "ending" in recorded["prompts"]


def test_what_lists_scorers_lists_it(runs, tmp_path):
    rules, asked = runs
    mine = tmp_path / "ending.jinja"
    mine.write_text((PACKAGE / "their_package/ending.jinja").read_text().replace("last", "final"))
    checked, columns, report, compared, shown, helped, hidden, asking, listed, template = (
        with_package(
            ["prompt", "check"],
            ["labels", "--columns"],
            ["report", asked],
            ["compare", rules, asked, "--metric", "ending"],
            ["show", "1", asked],
            ["score", "--help"],
            ["capture", "--help"],
            ["prompt", "show", "ending", asked, "--features", "1", "--prompts", tmp_path],
            ["prompt", "list", "--prompts", tmp_path],
            ["config"],
        )
    )
    assert re.search(r"ending: good, .*their_package/ending\.jinja", checked[1])
    assert "ending_accuracy" in columns[1]
    assert "the share of firing excerpts that were told" in " ".join(columns[1].split())
    assert report[0] == 0, report[2]
    assert "ending" in (asked / "report.html").read_text()
    assert "accuracy" in compared[1], compared[2]
    assert "ending accuracy" in shown[1], shown
    assert "--ending-tokens" in helped[1]
    assert "ending" not in hidden[1]
    assert "whether its final words" in asking[1], asking[2]
    assert re.search(rf"ending +yours .*{re.escape(str(mine))}", listed[1])
    assert "# ending_tokens = 1" in template[1]


def test_a_run_is_looked_at_without_the_package_that_scored_it(runs, cli):
    for command in (["labels"], ["show", "1"], ["scores"], ["report"], ["export", "jsonl"]):
        status, _, said = cli(*command, "--run", str(runs[1]))
        assert (status, said.count("Traceback")) == (0, 0), said


def test_formats_of_saes_caches_and_labels_are_one_file_each(planted, tmp_path):
    cache, coder = find_cache(planted.cache), load_coder(planted.coder)
    np.savez(
        tmp_path / "text.acts.npz",
        activations=cache.read(0, cache.contexts).float().numpy(),
        token_ids=cache.token_ids.numpy(),
        tokens=[cache.vocabulary.token_text(i) for i in range(len(cache.vocabulary))],
    )
    np.savez(
        tmp_path / "mine.sae.npz",
        W_enc=coder.encoder.T.numpy(),
        b_enc=coder.bias.numpy(),
        W_dec=coder.encoder.numpy(),
        b_dec=np.zeros(coder.d_in, np.float32),
    )
    files = ["--coder", tmp_path / "mine.sae.npz", "--cache", tmp_path / "text.acts.npz"]
    labeled, taken = tmp_path / "labeled", tmp_path / "taken"
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"latent": 7, "pairs": [["the", 0], [" cat", 1.5]]}\n')
    commands = [
        ["run", labeled, *files],
        ["export", "tsv", labeled],
        ["collect", taken, *files],
        ["import", "tsv", labeled / "exports" / "labels.tsv", taken],
        ["import", "activations", pairs, "--out", tmp_path / "pairs"],
        ["score", taken, *files],
        ["export", "--help"],
        ["import", "--help"],
        ["import", "activations", "--help"],
    ]
    done = with_package(*commands)
    for status, _, said in done[:5]:
        assert status == 0, said
    windows = pq.read_table(tmp_path / "pairs" / "windows.parquet").to_pylist()
    assert {(w["feature"], w["text"], w["peak"]) for w in windows} == {(7, "the cat", 1)}
    written = (labeled / "exports" / "labels.tsv").read_text().splitlines()
    imported = pq.read_table(taken / "labels.parquet").to_pylist()
    assert {f"{r['feature']}\t{r['label']}" for r in imported if r["label"]} == set(written)
    assert len(written) == 12
    assert {r["labeler"] for r in imported if r["label"]} == {"tsv:tsv"}
    assert "needs --model" in done[5][2]
    for _, helped, _ in done[6:8]:
        assert "tsv: features and their labels" in helped
    assert "pairs: lines of latent and pairs" in done[8][1]


BROKEN = {
    "missing": ("scorers", "broken_package.nothing:SCORER", "cannot be loaded: ModuleNotFound"),
    "failing": ("exports", "broken_package.failing:EXPORT", "cannot be loaded: ZeroDivision"),
    "wrong": ("exports", "broken_package.wrong:EXPORT", "must be an entry of class ExportFormat"),
    "csv": ("exports", "broken_package.again:EXPORT", "must be an entry of class ExportFormat"),
}


def test_a_broken_plugin_is_one_line_and_spoils_nothing_else(runs, tmp_path):
    package, info = tmp_path / "broken_package", tmp_path / "broken-1.0.dist-info"
    package.mkdir()
    (package / "failing.py").write_text("EXPORT = 1 / 0")
    (package / "wrong.py").write_text("EXPORT = 1")
    ours = "from autointerp.tables.exports.spreadsheet import EXPORT as EXPORT"
    (package / "again.py").write_text(ours)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = ""
    for name, (kind, value, _) in BROKEN.items():
        points += f"{'' if kind in points else f'[autointerp.{kind}]'}\n{name} = {value}\n"
    (info / "entry_points.txt").write_text(points)
    rules = runs[0]
    shown, ours, *needed = with_package(
        ["show", "1", rules],
        ["export", "csv", rules, "--out", tmp_path / "labels.csv"],
        ["run", "--scorers", "missing", "--out", tmp_path / "no"],
        ["export", "failing", rules, "--out", tmp_path / "no"],
        ["export", "wrong", rules, "--out", tmp_path / "no"],
        package=tmp_path,
    )
    assert shown[0] == ours[0] == 0, (shown, ours)
    assert (tmp_path / "labels.csv").is_file()
    said = [line for _, _, err in (shown, ours, *needed) for line in err.splitlines()]
    for name, (_, _, why) in BROKEN.items():
        lines = [line for line in said if why in line and f" {name} of the package broken" in line]
        assert len(lines) == 1 + (name != "csv"), (name, said)
    assert [status for status, *_ in needed] == [2, 2, 2]
    assert not (tmp_path / "no").exists()


def test_a_name_that_is_not_there_is_said_with_those_that_are():
    with pytest.raises(Exception, match="there is no scorer 'magic'; there are detection, simul"):
        SCORERS.find("magic")
    assert list(SCORERS)[:3] == ["detection", "simulation", "fuzzing"]
    assert list(EXPORTS) == [
        *("neuronpedia", "neuronpedia-upload", "saedashboard", "openai", "delphi"),
        *("jsonl", "csv"),
    ]
    orders = [entry.order for entry in (*SCORERS.values(), *EXPORTS.values())]
    assert max(orders) < registry.AFTER_OURS


def test_a_wrong_signature_is_an_error_where_it_is_registered(tmp_path):
    """As a user's own mypy would have it; what they registered rightly is not."""
    right = [str(path) for path in FILES if path.suffix == ".py"]
    source = (PACKAGE / "their_package/ending.py").read_text()
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        source.replace("judged: Judged, seed: int", "judged: Judged").replace(
            "scattered: bool) -> ReplySchema:", "scattered: bool) -> object:"
        )
        + "\n\ndef write(out: Path) -> None: ...\n\n\n"
        + "from autointerp.tables.exports.export_format import ExportFormat\n"
        + 'EXPORT = ExportFormat(name="x", about="x", write=write)\n'
    )
    cache = str(ROOT / ".mypy_cache")
    options = ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", cache]
    found, _, _ = mypy.run([*options, *right, str(wrong)])
    errors = [line for line in found.splitlines() if ": error: " in line]
    assert len(errors) == 3, found
    assert all("wrong.py" in line for line in errors)
    for argument in ('"reduce" to "Scorer"', 'to "Task"', '"write" to "ExportFormat"'):
        assert any(argument in line for line in errors), found


def test_the_documents_show_the_files_that_are_tested():
    document = (ROOT / "docs" / "extending.md").read_text()
    for path in (*FILES, PACKAGE / "their_package-1.0.dist-info/entry_points.txt"):
        assert path.read_text().strip() in document, path.name
