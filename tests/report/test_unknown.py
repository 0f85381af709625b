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


def test_the_table_fits_eighty_columns_and_has_what_is_expected(tmp_path):
    rows = [
        label(0, "a label that is long enough to be folded " * 2, **f1(None, 0.05, 0.95)),
        label(1, "not scored", expected_f1=0.45, expected_f1_ci_low=0.1, expected_f1_ci_high=0.8),
    ]
    rows = [row | {"density": 0.00123, "window_density": 0.0345} for row in rows]
    run = a_run(tmp_path / "run", rows, [])
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    print_labels(run, "expected_f1", 10, None, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    head = next(line for line in text.splitlines() if "feature" in line and "F1" in line)
    assert head.split()[-2:] == ["windows", "tokens"]
    lines = text.splitlines()
    assert any("~0.45" in line for line in lines if "not scored" in line)
    assert any("unknown" in line and "3.4 %" in line and "0.12 %" in line for line in lines)
    assert text.index("not scored") < text.index("a label that")
