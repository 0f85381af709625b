from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.evidence.window_text import marked
from autointerp.labeling.excerpts import (
    Shown,
    contrast_windows,
    shown_variables,
    shown_windows,
    top_tokens,
)
from autointerp.vocabulary import Vocabulary
from tests.support.samples import evidence, window

PIECES = (b" a", b"|", b"7", b" 10", b"|3", b"x y", b"\n")
VOCABULARY = Vocabulary(PIECES, frozenset())


def sample(*quantiles, first_context=100):
    return [
        window([0], [1 + q], kind="sample", rank=i, context=first_context + i, quantile=q)
        for i, q in enumerate(quantiles)
    ]


def top(n):
    return [window([0], [3 - i / 10], rank=i, context=i, quantile=1.0) for i in range(n)]


def shown_quantiles(quantiles, n):
    return [w.quantile for w in shown_windows(evidence(0, sample(*quantiles)), Shown(0, n))]


def test_top_windows_come_first_then_one_of_each_quantile():
    windows = top(8) + sample(0.1, 0.55, 0.15, 0.9, 0.3, 0.35)
    shown = shown_windows(evidence(0, windows), Shown(3, 4))
    assert [(w.kind, w.rank) for w in shown[:3]] == [("top", 0), ("top", 1), ("top", 2)]
    # The first of each quarter in the sample's own, random order.
    assert [w.quantile for w in shown[3:]] == [0.9, 0.55, 0.3, 0.1]


def test_where_a_quantile_is_empty_others_give_more():
    assert shown_quantiles([0.1, 0.2, 0.9], 3) == [0.9, 0.2, 0.1]
    assert shown_quantiles([0.1, 0.2, 0.7, 0.8, 0.9, 0.95], 4) == [0.9, 0.8, 0.7, 0.1]
    # Of those that give a second one the strongest.
    assert shown_quantiles([0.1, 0.2, 0.85, 0.9], 3) == [0.9, 0.85, 0.1]


def test_further_top_windows_fill_up_and_no_context_is_shown_twice():
    windows = top(8) + sample(0.2, 0.8, first_context=1)
    shown = shown_windows(evidence(0, windows), Shown(2, 5))
    assert [(w.kind, w.context) for w in shown] == [
        ("top", 0),
        ("top", 1),
        ("sample", 2),
        *(("top", c) for c in (3, 4, 5, 6)),
    ]
    assert len(shown_windows(evidence(0, top(2) + sample(0.5, 0.6)), Shown(5, 0))) == 4


@given(
    st.lists(st.floats(0, 1, width=32), max_size=30),
    st.integers(0, 10),
    st.integers(0, 6),
    st.integers(1, 8),
)
def test_shown_windows_are_as_even_over_the_quantiles_as_can_be(quantiles, kept, n_top, strata):
    windows = top(kept) + sample(*quantiles)
    shown = shown_windows(evidence(0, windows), Shown(n_top, strata))
    assert len(shown) == min(n_top + strata, len(windows))
    assert len({w.context for w in shown}) == len(shown)
    assert [w.rank for w in shown[: min(n_top, kept)]] == list(range(min(n_top, kept)))

    def stratum(w):
        return min(int(w.quantile * strata), strata - 1)

    chosen = [w for w in shown if w.kind == "sample"]
    there = [stratum(w) for w in sample(*quantiles)]
    taken = [sum(stratum(w) == s for w in chosen) for s in range(strata)]
    # Nobody has two more than another that has one left to give.
    for s in range(strata):
        if taken[s] < there.count(s):
            assert max(taken) <= taken[s] + 1


def test_of_silent_windows_near_misses_come_first():
    silent = [
        window([0], [0], kind=kind, rank=i, context=10 * i)
        for kind in ("near_miss", "negative")
        for i in range(3)
    ]
    others = [replace(w, context=w.context + 5) for w in silent[3:]]
    scored = [replace(w, split="score") for w in silent]
    feature = evidence(0, [*top(2), *scored, *silent, *others])

    def kinds(n):
        return [(w.kind, w.context) for w in contrast_windows(feature, n)]

    assert kinds(0) == []
    assert kinds(2) == [("near_miss", 0), ("near_miss", 10)]
    # Negatives of contexts that a near miss is from are left out.
    assert kinds(5)[3:] == [("negative", 5), ("negative", 15)]
    assert len(kinds(99)) == 6
    assert contrast_windows(evidence(0, others), 2) == others[:2]


def test_top_tokens_are_those_of_windows_to_label():
    sampled = [window([i % 3, 4], [1, 0], kind="sample", context=i) for i in range(7)]
    scored = [window([5], [9], kind="sample", split="score", context=50 + i) for i in range(20)]
    assert top_tokens(evidence(0, sampled + scored)) == [0, 1, 2]
    assert top_tokens(evidence(0, [window([6], [1]), *scored])) == [6]


def test_output_tokens_are_shown_of_features_that_have_them():
    known = replace(
        evidence(0, top(1)), raised_tokens=["\n", "b", "c"], lowered_tokens=["d", "e", "f"]
    )
    group = [known, evidence(1, top(1))]
    for n, raised, lowered in ((2, ["'⏎'", "'b'"], ["'d'", "'e'"]), (0, [], [])):
        first, second = shown_variables(group, VOCABULARY, Shown(1, 0, output_tokens=n), [1, 2])[
            "features"
        ]
        assert (first["raised_tokens"], first["lowered_tokens"]) == (raised, lowered)
        assert (second["raised_tokens"], second["lowered_tokens"]) == ([], [])


def test_marks_occur_in_no_silent_text_either():
    silent = window([0], [0], kind="near_miss", text="1 << 2")
    feature = evidence(0, [*top(1), silent])
    assert shown_variables([feature], VOCABULARY, Shown(1, 0), [1])["open_mark"] == "<<"
    assert shown_variables([feature], VOCABULARY, Shown(1, 0, contrast=1), [1])["open_mark"] == "⟦"


@given(
    st.lists(
        st.tuples(st.integers(0, len(PIECES) - 1), st.floats(0, 8, width=32)),
        min_size=1,
        max_size=12,
    )
)
def test_a_strength_is_never_taken_for_text(tokens):
    token_ids, activations = zip(*tokens, strict=True)
    largest = max(activations)
    shown = marked(window(token_ids, activations), VOCABULARY, ("<<", ">>"), 8.0)
    plain, runs = "", []
    for i, part in enumerate(shown.replace(">>", "<<").split("<<")):
        text, _, number = part.rpartition("|") if i % 2 else (part, "", "")
        plain += text
        if i % 2:
            runs.append((text, int(number)))
    texts = [PIECES[t].decode().replace("\n", "⏎") for t in token_ids]
    assert plain == "".join(texts)
    # By brute force: the runs of tokens of at least three tenths of the largest activation.
    expected: list[tuple[str, float]] = []
    open_run = False
    for text, activation in zip(texts, activations, strict=True):
        active = activation > 0 and activation >= 0.3 * largest
        if active and open_run:
            before, strongest = expected.pop()
            expected.append((before + text, max(strongest, activation)))
        elif active:
            expected.append((text, activation))
        open_run = active
    assert runs == [(text, round(10 * a / 8)) for text, a in expected]


@pytest.mark.parametrize("numbers", ["marks", "numbers"])
def test_an_excerpt_names_its_strongest_token_and_strength(numbers):
    feature = evidence(0, [window([0, 5, 0], [1, 4, 0]), window([0], [8], rank=1, context=1)])
    shown = shown_variables([feature], VOCABULARY, Shown(2, 0, numbers), [1])
    assert shown["numbers"] == (numbers == "numbers")
    excerpts = shown["features"][0]["windows"]
    assert [(e["number"], e["peak"], e["strength"]) for e in excerpts] == [
        (1, "'x y'", 5),
        (2, "' a'", 10),
    ]
    assert excerpts[0]["text"] == (" a<<x y|5>> a" if numbers == "numbers" else " a<<x y>> a")


def test_a_top_token_that_is_part_of_a_character_is_shown_as_the_whole():
    vocabulary = Vocabulary((b" a", b"\xc3", b"\xa9", b"\xa8"), frozenset())
    halves = [
        window([0, 1, 2 + i % 2], [0, 2.0, 0], kind="sample", context=i, rank=i) for i in range(4)
    ]
    plain = [window([0], [1.0], kind="sample", context=9, rank=4)]
    made = replace(evidence(0, halves + plain), raised_tokens=["x", "\ufffd", "y"])
    (feature,) = shown_variables([made], vocabulary, Shown(0, 4, output_tokens=2), [1])["features"]
    assert feature["top_tokens"] == ["'é'", "' a'"]
    assert feature["raised_tokens"] == ["'x'", "'y'"]
    assert "\ufffd" not in str(feature)
