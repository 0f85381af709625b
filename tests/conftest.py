import contextlib
import io
import os
import shutil
import sys
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

from autointerp import cli as command_line
from autointerp.runs import Run
from tests.planted import Planted, plant

# Others use the machine too: how long an example took says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

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
