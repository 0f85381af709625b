from dataclasses import replace

import pyarrow.parquet as pq

from autointerp.labeling.labeler import Candidate, Draft
from autointerp.tables.write import read_drafts, write_drafts


def test_drafts_are_read_as_they_were_written(tmp_path):
    drafts = [
        Draft(0, "labeled", "m", label="a", polysemantic=False, meanings=[]),
        Draft(1, "labeled", "m", label="b", polysemantic=True, meanings=["x", "y"]),
        Draft(2, "labeled", "m", label="c", request="0123456789ab"),
        Draft(3, "labeled", "m", label="d", candidates=[Candidate("e", 0.5, 24), Candidate("d")]),
        Draft(4, "labeled", "m", label="f", candidates=[]),
    ]
    write_drafts(reversed(drafts), tmp_path / "drafts.parquet")
    assert read_drafts(tmp_path / "drafts.parquet") == drafts


def test_what_an_earlier_version_did_not_write_is_not_known(tmp_path):
    file = tmp_path / "drafts.parquet"
    draft = Draft(1, "labeled", "m", label="b", polysemantic=True, meanings=["x", "y"])
    draft = replace(draft, candidates=[Candidate("b")], request="0123456789ab")
    write_drafts([draft], file)
    pq.write_table(
        pq.read_table(file).drop_columns(["polysemantic", "meanings", "candidates", "request"]),
        file,
    )
    assert read_drafts(file) == [Draft(1, "labeled", "m", label="b")]
