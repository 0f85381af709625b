"""From the command line: which text labels and which scores, by document."""

import json

import numpy as np
import pandas as pd
import pytest

from autointerp.runs.directory import Run
from autointerp.tables.compare import settings_apart
from tests.coders.test_coder import write_saelens
from tests.support.tokenizers import write_subject

SIDES = {"label", "validate", "score"}


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """A subject, an SAE and a text of 40 documents, of which one is as long as the others."""
    path = tmp_path_factory.mktemp("split")
    write_subject(path / "subject")
    write_saelens(path / "sae", "standard", d_in=16)
    (path / "text").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        words = rng.choice(["the", "cat", "sat", "on", "mat"], 3000 if number == 20 else 75)
        (path / "text" / f"{number:02}.txt").write_text(" ".join(words))
    read = ["--subject", str(path / "subject"), "--text", str(path / "text")]
    read += ["--sae", str(path / "sae"), "--hook", "residual:1", "--context-length", "16"]
    return [*read, "--window-length", "8", "--window-before", "5", "--repeats", "none"]


def collected(cli, flags, out):
    code, _, said = cli("collect", *flags, "--out", str(out))
    assert code == 0, said
    windows, corpus = (pd.read_parquet(out / f"{n}.parquet") for n in ("windows", "corpus"))
    return windows, corpus, json.loads((out / "run.json").read_text())


def test_a_document_labels_or_scores(cli, flags, tmp_path):
    windows, corpus, record = collected(cli, flags, tmp_path / "document")
    assert record["config"]["split"] == "document"
    assert set(windows.split) == SIDES
    assert (windows.groupby("feature").split.nunique() == 3).mean() > 0.7
    sides = windows.groupby("document").split.agg(set)
    assert len(sides) > 30
    assert [number for number, found in sides.items() if len(found) > 1] == [20]
    scored = set(windows.document[windows.split == "score"])
    assert set(corpus.document) - {20} <= scored
    (remark,) = (r for r in record["stages"]["collect"]["remarks"] if "longer" in r)
    assert remark.startswith("1 document is longer than half of the text before: split in blocks")


def test_by_context_a_document_lies_on_several_sides(cli, flags, tmp_path):
    documents, _, _ = collected(cli, flags, tmp_path / "document")
    windows, _, record = collected(cli, [*flags, "--split", "context"], tmp_path / "context")
    assert record["config"]["split"] == "context"
    assert not any("split in" in r for r in record["stages"]["collect"]["remarks"])
    assert (windows.groupby("document").split.nunique() > 1).mean() > 0.9
    assert windows.document.notna().all()
    apart = settings_apart(Run(tmp_path / "document"), Run(tmp_path / "context"))
    assert apart["split"] == ("document", "context")
    assert len(windows) != len(documents)


def test_a_stream_and_a_cache_of_it_are_split_alike(cli, flags, tmp_path):
    windows, corpus, _ = collected(cli, flags, tmp_path / "stream")
    code, _, said = cli("capture", *flags, "--out", str(tmp_path / "cache"))
    assert code == 0, said
    others, sample, _ = collected(cli, [*flags, "--batch-contexts", "7"], tmp_path / "cache")
    pd.testing.assert_frame_equal(windows, others)
    pd.testing.assert_frame_equal(corpus, sample)
