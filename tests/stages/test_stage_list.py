"""The stages know of one another, and of scorers, no more than they have to."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import autointerp
from autointerp.config.settings import RunConfig
from autointerp.pipeline import stages_of
from autointerp.scoring import SCORERS
from autointerp.scoring.experiment import experiment_of
from autointerp.stages.stage_list import STAGES

PACKAGE = Path(autointerp.__file__).parent
ALL_SCORERS = [
    *sorted((PACKAGE / "stages" / "score").glob("*.py")),
    *(PACKAGE / name for name in ("pipeline.py", "stages/show_prompts.py", "stages/stage.py")),
]


def test_a_cache_is_captured_where_one_is_named():
    assert stages_of(RunConfig()) == ("collect", "label", "score")
    assert stages_of(RunConfig(cache="c")) == ("capture", "collect", "label", "score")


@pytest.mark.parametrize("path", ALL_SCORERS, ids=lambda path: path.name)
def test_what_scores_names_no_scorer(path):
    """Every word, but for those of the documentation."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    words = set(re.findall(r"[a-z]+", ast.unparse(tree).lower()))
    assert not words & SCORERS.keys()


def test_the_pipeline_names_no_stage():
    source = (PACKAGE / "pipeline.py").read_text()
    strings = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
    assert not strings & {stage.name for stage in STAGES}
    assert not re.findall(r"\w+_stage\b", source)


def test_what_a_stage_does_is_seen_at_a_glance():
    for stage in STAGES:
        assert len(inspect.getsource(stage.run).splitlines()) < 50, stage.name


def test_every_task_is_of_one_stage_and_every_experiment_is_there():
    tasks = [task for stage in STAGES for task in stage.tasks]
    assert len(tasks) == len(set(tasks))
    experiments = {name: experiment_of(scorer) for name, scorer in SCORERS.items()}
    assert [name for name, found in experiments.items() if found] == ["fade"]
    for experiment in experiments.values():
        assert experiment is None or set(experiment.tasks) <= set(tasks)
