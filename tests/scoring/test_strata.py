from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from autointerp.evidence.corpus import Corpus
from autointerp.scoring.label_windows import by_meaning, by_words
from autointerp.scoring.strata import STRATA, draw, draw_uniform, strata_of, windows_for
from tests.support.samples import corpus_of, evidence, window


def labeled_on(tokens, **known):
    windows = [
        window([t], [1.0], kind="sample", split="label", context=i) for i, t in enumerate(tokens)
    ]
    return evidence(0, windows, **known)


@given(
    fires=st.dictionaries(st.integers(0, 59), st.lists(st.integers(0, 6), max_size=4), max_size=60),
    tokens=st.dictionaries(
        st.integers(0, 59), st.lists(st.integers(0, 9), min_size=1, max_size=3), max_size=60
    ),
    similar=st.lists(st.integers(1, 6), unique=True),
    own=st.lists(st.integers(0, 9), max_size=6),
    n=st.integers(0, 70),
)
def test_strata_part_the_silent_windows(fires, tokens, similar, own, n):
    corpus = corpus_of(fires, tokens, windows=60)
    known = labeled_on(own, similar=[(f, 1 - f / 10) for f in similar])
    silent = {i for i in range(60) if 0 not in fires.get(i, [])}
    strata = strata_of(corpus, known)
    found = [int(w) for s in strata for w in s.windows]
    assert sorted(found) == sorted(silent)
    assert abs(sum(s.share for s in strata) - bool(silent)) < 1e-9
    by_name = {s.name: s for s in strata}
    for name in ("similar", "same_token"):
        if name in by_name:
            assert by_name[name].share <= 0.1 + 1e-9
    for i in by_name["similar"].windows if "similar" in by_name else []:
        assert set(fires[int(i)]) & set(similar)
    for i in by_name["same_token"].windows if "same_token" in by_name else []:
        assert set(tokens[int(i)]) & set(own)
    drawn = draw(strata, n, 5, 0)
    assert len(drawn) == min(n, len(silent))
    assert len({i for _, i in drawn}) == len(drawn)
    assert all(i in by_name[name].windows for name, i in drawn)
    assert drawn == draw(strata, n, 5, 0)
    uniform = draw_uniform(strata, n, 5, 0)
    assert len(set(uniform)) == len(uniform) == min(n, len(silent))


def test_a_similar_feature_that_fires_nearly_everywhere_is_passed_by():
    corpus = corpus_of({i: [1] if i < 50 else [2] if i < 53 else [] for i in range(100)}, {}, 100)
    strata = strata_of(corpus, labeled_on([], similar=[(1, 0.9), (2, 0.8)]))
    assert {s.name: s.share for s in strata} == {"similar": 0.03, "other": 0.97}
    assert [s.name for s in strata] == [n for n in STRATA if n in ("similar", "other")]


def corpus_with(texts):
    table = pa.table(
        {
            "window": pa.array(range(len(texts)), pa.int32()),
            "context": pa.array(range(len(texts)), pa.int64()),
            "start": pa.array([0] * len(texts), pa.int32()),
            "token_ids": pa.array([[1]] * len(texts), pa.list_(pa.int32())),
            "text": texts,
            "features": pa.array([[]] * len(texts), pa.list_(pa.int32())),
        }
    )
    return Corpus(table)


def test_windows_like_a_label_are_those_with_its_rarest_word_first():
    texts = ["may day", "may night", "Months of year", "in months, may", "a", *["may"] * 5]
    sources = by_words(corpus_with(texts))
    assert [s.tolist() for s in sources("MONTHS, dates (year) and may")] == [
        [2],
        [2, 3],
        [0, 1, 3, 5, 6, 7, 8, 9],
    ]
    # Of a rule what it quotes, and no word that is about words.
    assert [s.tolist() for s in sources("'months' or ' day' after a word of the year")] == [
        *([0], [2, 3])
    ]
    for empty in ("", "names of words in the text", "unheard-of!"):
        assert sources(empty) == []


def test_windows_like_a_label_are_a_stratum_of_their_own():
    texts = ["months"] * 8 + ["years"] * 92
    corpus = corpus_with(texts)
    strata = strata_of(corpus, labeled_on([]), by_words(corpus)("names of months"))
    assert {s.name: s.share for s in strata} == {"label": 0.08, "other": 0.92}
    assert Counter(name for name, _ in draw(strata, 30, 0, 0)) == {"label": 6, "other": 24}
    # A word of most windows says nothing, and without a label all is as it was.
    assert [s.name for s in strata_of(corpus, labeled_on([]), by_words(corpus)("years"))] == [
        "other"
    ]
    assert [s.name for s in strata_of(corpus, labeled_on([]))] == ["other"]


def test_windows_like_a_label_by_meaning_are_the_nearest():
    corpus = corpus_with(["x"] * 100)
    angles = np.linspace(0, np.pi, 100)
    documents = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    (nearest,) = by_meaning(corpus, lambda: documents, lambda _: np.array([-1.0, 0.0]))("x")
    assert sorted(nearest.tolist()) == [95, 96, 97, 98, 99]


def test_more_windows_are_judged_of_rare_features():
    assert [windows_for(q, 20) for q in (0.9, 0.1, 0.01, 0.001, 1e-4, 1e-9)] == [
        *(20, 20, 30, 40, 50, 50)
    ]


def test_windows_that_two_labels_share_are_drawn_for_both():
    """So that two runs whose labels differ are mostly judged on the same windows."""
    corpus = corpus_with(["months"] * 50 + ["years"] * 50 + ["x"] * 900)
    by_label = [
        set(draw(strata_of(corpus, labeled_on([]), by_words(corpus)(label)), 40, 3, 0, steady=True))
        for label in ("months", "years")
    ]
    shared = {i for _, i in by_label[0]} & {i for _, i in by_label[1]}
    assert len(shared) >= 30
