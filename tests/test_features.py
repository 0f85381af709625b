import pytest

from autointerp.errors import UserError
from autointerp.features import select_features


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
        ("0-10", "there is no feature 10, the coder has features 0 to 9"),
        ("5-3", "ends before it begins"),
        ("one", "'one' is neither an id nor a range"),
        ("-3", "neither an id nor a range"),
        ("", "neither an id nor a range"),
        ("random:0", "from 1 to the coder's width"),
        ("random:11", "from 1 to the coder's width"),
        ("@missing.txt", "there is no file missing.txt"),
    ],
)
def test_what_cannot_be_selected_is_said(text, said):
    with pytest.raises(UserError, match=said):
        select_features(text, 10, 0)
