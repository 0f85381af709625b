from hypothesis import given
from hypothesis import strategies as st

from autointerp.labeling.meanings import distinct_meanings, joint_label

SHOWN = 8
CLAIMS = st.lists(
    st.tuples(st.sampled_from(["a", "A", "b", "c", "d"]), st.lists(st.integers(-1, SHOWN + 2))),
    max_size=6,
)


def test_meanings_need_two_windows_each_of_their_own():
    assert distinct_meanings([("a", [1, 2]), ("b", [3, 4])], SHOWN, 5) == ["a", "b"]
    # A third one may be rarer, but not without any window.
    claims = [("a", [1, 2]), ("b", [3, 4]), ("c", [5]), ("d", [])]
    assert distinct_meanings(claims, SHOWN, 5) == ["a", "b", "c"]
    assert distinct_meanings([("a", [1, 2, 3]), ("b", [4])], SHOWN, 5) == []
    # What both claim speaks for neither; numbers that were not shown speak for nothing.
    assert distinct_meanings([("a", [1, 2, 3]), ("b", [2, 3, 4])], SHOWN, 5) == []
    assert distinct_meanings([("a", [1, 2]), ("b", [0, SHOWN + 1])], SHOWN, 5) == []
    # One meaning twice is one.
    assert distinct_meanings([("a", [1, 2]), ("A", [3, 4])], SHOWN, 5) == []


def test_meanings_are_bounded_in_number():
    claims = [(name, [2 * i + 1, 2 * i + 2]) for i, name in enumerate("abcd")]
    assert distinct_meanings(claims, SHOWN, 3) == ["a", "b", "c"]


def test_a_joint_label_names_all():
    assert joint_label(["a", "b"]) == "either a, or b"
    assert joint_label(["a", "b", "c"]) == "either a, or b, or c"


@given(CLAIMS, st.integers(2, 5))
def test_meanings_are_what_their_own_windows_bear_out(claims, most):
    kept = distinct_meanings(claims, SHOWN, most)
    assert len(kept) <= most

    def claimed(name):
        return {n for other, numbers in claims if other.lower() == name.lower() for n in numbers}

    own = {}
    for name in {name.lower() for name, _ in claims}:
        others = {n for other, numbers in claims if other.lower() != name for n in numbers}
        own[name] = {n for n in claimed(name) - others if 1 <= n <= SHOWN}
    assert len(kept) == len({name.lower() for name in kept})
    for name in kept:
        assert own[name.lower()]
    if kept:
        assert sum(len(own[name.lower()]) >= 2 for name in kept) >= 2
    elif len(own) <= most:
        assert sum(len(numbers) >= 2 for numbers in own.values()) < 2
