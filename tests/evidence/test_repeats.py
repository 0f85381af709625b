import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.evidence.repeats import shingles, similar_windows, text_keys
from tests.support import oracle

WINDOW = 32


def keys(tokens, window, repeats):
    return text_keys(torch.tensor(tokens), 0, window, repeats)


def test_exact_keys_are_those_of_equal_tokens_wherever_they_stand():
    text = torch.randint(0, 50, (20,)).tolist()
    found = keys([[7, 7, *text, 1, 2], [*text, 3, 4, 5, 6]], 20, "exact")
    assert found[0, 2] == found[1, 0]
    assert len(found.unique()) == found.numel() - 1


def test_near_keys_are_shared_by_windows_of_nearly_one_text_alone():
    torch.manual_seed(0)
    n = 400
    texts = torch.randint(0, 500, (n, WINDOW))
    moved = torch.cat([texts[:, 2:], torch.randint(0, 500, (n, 2))], 1)  # 3 of 7 runs shared
    edited = texts.clone()
    edited[:, 16] += 1  # no run shared

    def share(others):
        both = (text_keys(t, 0, WINDOW, "near") for t in (texts, others))
        return float(torch.eq(*both).float().mean())

    assert share(texts) == 1
    assert abs(share(moved) - 3 / 7) < 0.08
    assert share(edited) == 0
    assert share(texts.roll(1, 0)) == 0


@given(
    st.lists(st.integers(0, 2), min_size=40, max_size=80),
    st.lists(st.integers(0, 2), min_size=40, max_size=80),
    st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_windows_with_one_near_key_resemble_each_other(one, other, common):
    """Of any texts: whatever else they are, no window is lost to one that is unlike it."""
    other = [*other[:3], *one[:common], *other[3:]]
    ids = [tuple(text[i : i + WINDOW]) for text in (one, other) for i in range(len(text) - 31)]
    found = text_keys(torch.tensor(ids), 0, WINDOW, "near").flatten().tolist()
    for i, first in enumerate(ids):
        for second, key in zip(ids[i + 1 :], found[i + 1 :], strict=True):
            if found[i] == key:
                run = WINDOW - WINDOW // 8
                runs = [{w[j : j + run] for j in range(WINDOW // 8 + 1)} for w in (first, second)]
                assert runs[0] & runs[1]


def test_short_texts_do_not_resemble_each_other_by_their_padding():
    texts = torch.full((2, WINDOW), -1)
    texts[0, :6] = torch.arange(6)
    texts[1, :6] = torch.arange(10, 16)
    texts[1, 4:6] = texts[0, 4:6]
    first, second = text_keys(texts, 0, WINDOW, "near").flatten().tolist()
    assert first != second
    marks, present = shingles(texts)
    assert present.sum(1).tolist() == [6, 6]
    assert len(similar_windows(marks.unsqueeze(0), present.unsqueeze(0))[0]) == 0


@given(
    st.lists(
        st.lists(st.lists(st.integers(-1, 3), min_size=9, max_size=9), min_size=5, max_size=5),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None)
def test_similar_windows_equal_brute_force(rows):
    tokens = torch.tensor(rows)
    marks, present = (t.view(len(rows), 5, -1) for t in shingles(tokens.flatten(0, 1)))
    found = list(zip(*(t.tolist() for t in similar_windows(marks, present)), strict=True))
    assert found == [
        (row, i, j)
        for row, windows in enumerate(rows)
        for i in range(5)
        for j in range(i + 1, 5)
        if max(windows[i]) >= 0
        and max(windows[j]) >= 0
        and oracle.jaccard(windows[i], windows[j]) >= 0.5
    ]


def test_every_context_has_a_key_of_its_own_where_repeats_are_kept():
    found = keys([[1, 1, 1], [1, 1, 1]], 2, "none")
    assert found[0].tolist() == [found[0, 0]] * 2
    assert found[0, 0] != found[1, 0]
