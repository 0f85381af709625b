import sys
from collections.abc import Callable

import pytest

from autointerp.cli import main
from tests.planted import Planted, plant

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), features=14)


@pytest.fixture
def cli(capsys, monkeypatch) -> Cli:
    """Run a command: exit status, standard output, standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autointerp", *arguments])
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command
