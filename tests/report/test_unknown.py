"""Population F1 that the windows leave open: no number, the interval, and how often."""

import pytest
from rich.console import Console

from autointerp.report.terminal import print_labels, summary
from tests.tables.test_compare import a_run, label


def f1(value, low, high):
    return {
        "population_f1": value,
        "population_f1_ci_low": low,
        "population_f1_ci_high": high,
    }


@pytest.fixture
def printed(tmp_path):
    rows = [
        label(0, "wide", **f1(None, 0.05, 0.95)),
        label(1, "good", **f1(0.9, 0.8, 0.95)),
        label(2, "lucky", **f1(0.92, 0.5, 0.99)),
        label(3, "not judged"),
    ]
    rows = [row | {"density": 0.01} for row in rows]
    run = a_run(tmp_path / "run", rows, [])

    def text(show):
        console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
        show(run, console)
        return console.export_text()

    return text


@pytest.mark.parametrize("sort", ["f1", "population_f1"])
def test_features_are_sorted_by_the_lower_end(printed, sort):
    text = printed(lambda run, console: print_labels(run, sort, 10, None, console))
    assert [text.index(name) for name in ("good", "lucky", "wide", "not judged")] == sorted(
        text.index(name) for name in ("good", "lucky", "wide", "not judged")
    )
    line = next(line for line in text.splitlines() if "wide" in line)
    assert "unknown" in line
    assert "unknown" not in next(line for line in text.splitlines() if "not judged" in line)


def test_the_summary_says_for_how_many_it_is_unknown(printed):
    text = printed(lambda run, console: console.print(summary(run)))
    line = next(line for line in text.splitlines() if "population F1" in line)
    assert "median 0.910" in line
    assert "2 features; unknown for 1 (33%)" in line
