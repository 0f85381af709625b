"""The tree of exceptions: what is public, and what the command line makes of each."""

import inspect

import pytest

import autointerp
from autointerp import errors
from autointerp.cli import main as command_line
from autointerp.errors import AutointerpError

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


def test_every_kind_is_public_and_below_the_root():
    assert len(TREE) > 10
    for kind in TREE:
        assert issubclass(kind, AutointerpError)
        assert kind.__name__ in autointerp.__all__
        assert getattr(autointerp, kind.__name__) is kind
        assert kind.__doc__


@pytest.mark.parametrize("kind", TREE)
def test_each_is_one_line_on_the_command_line(kind, monkeypatch, capsys):
    def fails(**_):
        raise kind("first\nsecond")

    monkeypatch.setattr(command_line, "app", fails)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("autointerp: first")
    assert said.count("\n") == 1
