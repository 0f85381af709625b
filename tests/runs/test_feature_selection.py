import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import AutointerpError
from autointerp.plain_text import listed
from autointerp.runs.feature_selection import select_among, select_features


def test_all_ranges_files_and_samples(tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("7, 3\n9-11\n3\n")
    assert select_features("all", 4, 0) == [0, 1, 2, 3]
    assert select_features("0-2,9", 10, 0) == [0, 1, 2, 9]
    assert select_features(f"@{ids}", 12, 0) == [3, 7, 9, 10, 11]
    drawn = select_features("random:5", 100, 3)
    assert drawn == select_features("random:5", 100, 3) == sorted(set(drawn))
    assert len(drawn) == 5
    assert drawn != select_features("random:5", 100, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0-10", "feature 10 does not exist; the SAE has features 0 to 9"),
        ("5-3", "ends before it begins"),
        ("one", "'one' is neither an id nor a range"),
        ("-3", "neither an id nor a range"),
        ("", "neither an id nor a range"),
        ("random:0", "N is a whole number from 1 to 10"),
        ("random:11", "N is a whole number from 1 to 10"),
        ("@missing.txt", "no such file: missing.txt"),
    ],
)
def test_what_cannot_be_selected_is_said(text, said):
    with pytest.raises(AutointerpError, match=said):
        select_features(text, 10, 0)


_IDS = st.integers(0, 40)


@given(st.sets(_IDS, min_size=1), st.lists(st.tuples(_IDS, _IDS), min_size=1))
def test_those_that_are_there_are_selected_and_the_others_counted(there, pairs):
    ranges = [sorted(pair) for pair in pairs]
    named = {feature for first, last in ranges for feature in range(first, last + 1)}
    text = ",".join(f"{first}-{last}" for first, last in ranges)
    chosen, missing = select_among(text, sorted(there), 0)
    assert chosen == sorted(named & there)
    assert missing == len(named - there)


def test_a_selection_may_name_more_than_fits_into_memory():
    assert select_among("3-999999999999", [1, 3, 7], 0) == ([3, 7], 999999999997 - 2)
    assert select_among("all", [1, 3], 0) == ([1, 3], 0)
    assert select_among("random:2", [1, 3, 7], 0)[1] == 0


@given(st.sets(_IDS, min_size=1))
def test_features_are_listed_as_they_can_be_selected(features):
    text = listed(sorted(features), most=100)
    assert select_features(text.replace(" ", ""), 41, 0) == sorted(features)


def test_many_features_are_listed_by_the_first_and_the_last():
    assert listed([1, 2, 3, 9]) == "1-3, 9"
    assert listed(list(range(0, 100, 2))) == "0, 2, 4, 6, 8, 10, 12, 14, …, 98"
