import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.numbering import (
    Miscounted,
    by_place,
    number_of,
    numbers,
    offset_of,
    undisputed,
)


@given(st.integers(1, 400))
def test_scattered_numbers_are_distinct_and_cannot_be_miscounted_into_each_other(n):
    scattered = numbers(n, True)
    assert len(set(scattered)) == n
    assert min(abs(a - b) for a in scattered for b in [*scattered, 0] if a != b) > 1
    assert not set(scattered) & set(range(10))
    assert numbers(n) == list(range(1, n + 1))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        ("Feature 3", 3),
        ("#3.", 3),
        (0, 0),
        (3.5, None),
        ("3.5", None),
        ("3 or 4", None),
        ("-3", None),
        ("three", None),
        ("1" * 5000, None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ([3], None),
    ],
)
def test_a_number_is_told_however_it_is_written(value, number):
    assert number_of(value) == number


def read(said, n, scattered=False):
    try:
        return by_place(said, n, scattered)
    except Miscounted:
        return "miscounted"


@pytest.mark.parametrize(
    ("given_numbers", "expected"),
    [
        ([1, 2, 3, 4], {1: 0, 2: 1, 3: 2, 4: 3}),
        ([0, 1, 2, 3], {1: 0, 2: 1, 3: 2, 4: 3}),
        ([2, 3, 4, 5], {1: 0, 2: 1, 3: 2, 4: 3}),
        ([3, 1], {3: 0, 1: 1}),
        ([0, 1, 2], "miscounted"),  # of the last, or cut off
        ([0, 1, 3], "miscounted"),
        ([1, 2, 3, 4, 5], "miscounted"),  # one too many: who can say which
        ([0, 1, 2, 3, 4], "miscounted"),
        ([1, 2, 3, 4, 99], {1: 0, 2: 1, 3: 2, 4: 3}),
        ([1, 2, 3, 99], "miscounted"),
        ([1, 2, 2, 3], "miscounted"),  # 3 may be meant for 4
        ([1, 2, 2, 3, 4], {1: 0, 3: 3, 4: 4}),
        ([None, None, None, None], {}),
        ([1, None, 3], {1: 0, 3: 2}),
        ([], {}),
    ],
)
def test_answers_are_put_where_they_belong_or_nowhere(given_numbers, expected):
    assert read([(number, i) for i, number in enumerate(given_numbers)], 4) == expected


def test_the_only_answer_to_the_only_question_needs_no_number():
    assert read([(None, "a")], 1) == read([(0, "a")], 1) == read([(2, "a")], 1) == {1: "a"}
    assert read([(None, "a"), (None, "b")], 1) == {}
    assert read([(7, "a")], 1) == "miscounted"


@given(st.data(), st.integers(2, 8), st.booleans())
def test_no_answer_is_put_on_a_neighbor_however_a_model_counts(data, n, scattered):
    """A model answers some items, in some order, and calls all of them by another first number."""
    asked = numbers(n, scattered)
    answered = data.draw(st.lists(st.sampled_from(range(n)), unique=True))
    first = data.draw(st.sampled_from([-1, 0, 1]))
    found = read([(asked[i] + first, i) for i in answered], n, scattered)
    # Counting from 0 and leaving out the first, or from 2 and the last, looks like the usual way.
    looks_usual = not scattered and first and {asked[i] + first for i in answered} <= set(asked)
    if found != "miscounted" and not looks_usual:
        assert found == {i + 1: i for i in answered}
    if first == 0 or len(answered) == n:
        assert found != "miscounted"


def test_an_offset_is_only_what_all_numbers_show():
    assert offset_of([1, 3], 5) == 0
    assert offset_of(range(5), 5) == 1
    assert offset_of(range(2, 7), 5) == -1
    for numbers_given in ([0], [0, 1, 2, 3], [2, 3, 4, 6], [1, 99]):
        with pytest.raises(Miscounted):
            offset_of(numbers_given, 5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2))))
def test_what_is_said_twice_and_not_the_same_counts_as_not_said(said):
    found = undisputed(said)
    for number in range(4):
        values = {value for n, value in said if n == number}
        assert ({found[number]} if number in found else None) == (
            values if len(values) == 1 else None
        )
