import contextlib
import io
import os
import sys
from collections.abc import Callable
from unittest import mock

import pytest

# Before the hub's library is imported: a test that would ask the network fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"

from autointerp.cli import main
from autointerp.runs import Run
from tests.planted import Planted, plant

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), features=14)


def run_command(*arguments: str) -> tuple[int, str, str]:
    """Run a command: exit status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["autointerp", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
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
