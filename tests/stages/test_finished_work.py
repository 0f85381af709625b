"""What counts as done: runs and caches from before, and settings that are new and say nothing.

`data/before` was made by the version before identities named what differs from a default.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pydantic
import pytest

import autointerp.pipeline  # noqa: F401 — whatever names a class of settings is to be there
from autointerp.activations.contexts import TextSettings
from autointerp.activations.stream import StreamSettings
from autointerp.config.settings import RunConfig
from autointerp.evidence.collector import CollectSettings
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.selection import SelectionSpec
from autointerp.evidence.store import EvidenceStore
from autointerp.labeling.excerpts import Shown
from autointerp.labeling.llm import LabelSettings
from autointerp.runs.directory import find_run

BEFORE = Path(__file__).parents[1] / "data" / "before"
READ = ["--subject", "source/subject", "--text", "text.txt"]
RUN = [
    *(*READ, "--tokens", "8192", "--context-length", "16", "--coder", "source/layers.1"),
    *("--features", "0-59", "--window-length", "8", "--window-before", "5"),
    *("--corpus-windows", "200", "--top-windows", "10", "--sample-windows", "10"),
    *("--score-windows", "24"),
]
RULES = [*RUN, "--out", "rules", "--labeler", "lexical"]
MODEL = [
    *(*RUN, "--out", "model", "--model", "test-model", "--candidates", "2"),
    *("--scorers", "detection,simulation,fuzzing", "--features-per-request", "3"),
]
SHORT = [*READ, "--tokens", "512", "--context-length", "16"]
CAPTURE = [*SHORT, "--hook", "residual:1", "--cache", "captured/cache", "--out", "captured"]
SPARSE = [*SHORT, "--coder", "source/layers.1", "--store", "sparse"]
SPARSE += ["--cache", "sparse/cache", "--out", "sparse"]
CLASSES = [TextSettings, StreamSettings, CollectSettings, SelectionSpec, LabelSettings, Shown]
CLASSES += [RunConfig]


@pytest.fixture
def before(tmp_path, monkeypatch):
    """The runs and caches of before, in the folder that commands are run in."""
    shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(tmp_path / "before")
    monkeypatch.setenv("OPENAI_API_KEY", "k")

    def without_place_and_time(files):
        return json.dumps([(file.name, file.stat().st_size) for file in files])

    for name, module in list(sys.modules.items()):
        if name.startswith("autointerp.") and hasattr(module, "files_identity"):
            monkeypatch.setattr(module, "files_identity", without_place_and_time)
    record = json.loads(Path("model/run.json").read_text())
    return ["--base-url", record["config"]["base_url"]]


def done(cli, *flags):
    code, _, said = cli(*flags)
    assert code == 0, said
    return [line.partition(":")[0] for line in said.splitlines() if "already done" in line]


def test_runs_and_caches_from_before_count_as_done(cli, before):
    assert done(cli, "run", *RULES) == ["collect", "label", "score"]
    assert done(cli, "run", *MODEL, *before) == ["collect", "label", "score"]
    assert done(cli, "capture", *CAPTURE) == ["capture"]
    assert done(cli, "capture", *SPARSE) == ["capture"]


def with_new_fields(settings):
    if issubclass(settings, pydantic.BaseModel):
        return pydantic.create_model(settings.__name__, __base__=settings, new=(int, 0))
    new = [("new", int, 0), ("newer", tuple, dataclasses.field(default_factory=tuple))]
    return dataclasses.make_dataclass(settings.__name__, new, bases=(settings,), frozen=True)


@pytest.mark.parametrize("settings", CLASSES, ids=lambda found: found.__name__)
def test_a_new_setting_that_changes_nothing_leaves_everything_done(
    cli, before, monkeypatch, settings
):
    grown = with_new_fields(settings)
    holders = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("autointerp.") and getattr(module, settings.__name__, None) is settings
    ]
    assert len(holders) > 1
    for module in holders:
        monkeypatch.setattr(module, settings.__name__, grown)
    assert done(cli, "run", *MODEL, *before) == ["collect", "label", "score"]
    assert done(cli, "capture", *CAPTURE) == ["capture"]


@pytest.mark.parametrize(
    ("changed", "still"),
    [
        (["--detection-windows", "10"], ["collect", "label"]),
        (["--min-windows", "30"], ["collect"]),
        (["--score-windows", "25"], []),
        (["--batch-contexts", "8", "--memory-gb", "4"], ["collect", "label", "score"]),
    ],
)
def test_a_changed_setting_redoes_just_what_depends_on_it(cli, before, changed, still):
    assert done(cli, "run", *RULES, *changed) == still


def test_a_run_from_before_keeps_its_split_unless_another_is_asked_for(cli, before):
    def split():
        return json.loads(Path("rules/run.json").read_text())["config"].get("split")

    assert split() is None
    assert done(cli, "run", *RULES, "--split", "context") == ["collect", "label", "score"]
    # What is collected anew for another setting is split as before, and stays so.
    assert done(cli, "run", *RULES, "--score-windows", "25") == []
    assert split() == "context"
    assert done(cli, "run", *RULES, "--score-windows", "25") == ["collect", "label", "score"]
    of_contexts = pd.read_parquet("rules/windows.parquet")
    assert done(cli, "run", *RULES, "--split", "document") == []
    assert split() == "document"
    assert not of_contexts.equals(pd.read_parquet("rules/windows.parquet"))
    assert done(cli, "run", *RULES) == ["collect", "label", "score"]


def test_evidence_from_before_has_no_documents(before):
    run = find_run("rules")
    corpus = Corpus.read(run.corpus)
    assert corpus.silent_window(len(corpus) - 1).document is None
    (evidence,) = EvidenceStore(run.windows, run.features).read([3])
    assert len(evidence.windows) > 10
    assert all(window.document is None for window in evidence.windows)


def test_a_cache_is_not_taken_for_another(cli, before):
    code, _, said = cli("capture", *CAPTURE, "--bos", "none")
    assert code == 2
    assert "captured/cache" in said
