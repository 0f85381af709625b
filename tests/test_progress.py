import io

import pytest
from rich.console import Console

from autointerp import progress


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_what_it_is_given_and_no_markup(monkeypatch, capsys, terminal):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=160)
    monkeypatch.setattr(progress, "console", console)
    with progress.track("label", 10, "features") as tracker:
        tracker.advance(4)
        tracker.note("server says [/bold] oops [red]")
        tracker.advance(6)
    said = shown.getvalue() + capsys.readouterr().err
    assert "label" in said
    assert "server says [/bold] oops [red]" in said
    assert ("10/10" in said) if terminal else ("10 of 10 features" in said)


def test_what_was_done_before_tells_nothing_of_the_rate(monkeypatch, capsys):
    times = iter([0.0])
    monkeypatch.setattr(progress, "console", Console(file=io.StringIO(), force_terminal=False))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times, 30.0))
    with progress.track("capture", 1000, "tokens") as tracker:
        tracker.skip(400)
        tracker.advance(300)
    assert capsys.readouterr().err.splitlines()[0] == (
        "capture: 700 of 1,000 tokens, 10/s, 30 s left"
    )
