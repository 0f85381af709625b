import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import autointerp
from autointerp.tables.collisions import collisions, folded, shares_label
from tests.conftest import run_command

SPELLINGS = ["plural nouns", "Plural  Nouns", " plural\tnouns\n", "STRASSE", "straße", "x", "X "]
LABELS = st.lists(st.none() | st.sampled_from(SPELLINGS), max_size=40)


@given(LABELS)
def test_shared_labels_are_counted_as_by_looking_at_every_pair(labels):
    expected = [
        None
        if own is None
        else sum(
            other is not None and folded(other) == folded(own)
            for place, other in enumerate(labels)
            if place != here
        )
        for here, own in enumerate(labels)
    ]
    assert shares_label(labels).to_pylist() == expected


@given(LABELS)
def test_figures_follow_from_the_counts(labels):
    found = collisions(labels)
    counts = Counter(folded(label) for label in labels if label is not None)
    if not counts:
        assert found is None
        return
    n = counts.total()
    assert (found.labeled, found.distinct) == (n, len(counts))
    assert found.mean_reuse == pytest.approx(n / len(counts))
    assert found.shared == pytest.approx(sum(c for c in counts.values() if c > 1) / n)
    assert found.most_common_count == max(counts.values())
    assert counts[folded(found.most_common)] == found.most_common_count
    assert found.most_common in labels
    if n == 1:
        assert found.entropy is None
    else:
        entropy = -sum(c / n * math.log2(c / n) for c in counts.values())
        assert found.entropy == pytest.approx(entropy / math.log2(n), abs=1e-12)
        assert 0 <= found.entropy <= 1 + 1e-12


def test_figures_of_the_papers_size():
    """722 features with 235 labels, one of them 101 times, 129 of them once."""
    labels = ["Plural nouns"] * 101 + [f"once {i}" for i in range(129)]
    labels += [f"often {i % 105}" for i in range(722 - 101 - 129)]
    found = collisions([None, *labels])
    assert (found.labeled, found.distinct) == (722, 235)
    assert round(found.mean_reuse, 2) == 3.07
    assert round(100 * found.shared, 2) == 82.13
    assert (found.most_common, found.most_common_count) == ("Plural nouns", 101)


def test_all_alike_and_all_distinct():
    assert collisions(["a", "A", "a "]).entropy == 0
    assert collisions(["a", "b", "c"]).entropy == pytest.approx(1)


def test_the_table_and_the_summary_say_who_shares_a_label(planted, tmp_path, monkeypatch):
    hostile = "Words \x1b[2J [bold]and words"
    monkeypatch.setattr("autointerp.rules.rules.Rule.phrase", lambda _: hostile)
    out = tmp_path / "out"
    code, printed, said = run_command("run", *planted.flags(out))
    assert code == 0, said
    labels = autointerp.load_labels(out)
    labeled = labels["status"] == "labeled"
    assert (labels.loc[labeled, "shares_label"] == 11).all()
    assert labels.loc[~labeled, "shares_label"].isna().all()
    said = " ".join(printed.replace("│", " ").split())
    assert "1 distinct for 12 features (12.00 each): 100.0% of features share theirs" in said
    assert "[bold]and words' ×12, H(label)/log₂ n 0.000" in said
    assert "\x1b" not in printed
