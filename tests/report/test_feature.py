"""The page of a feature says what the tables say."""

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from autointerp import load_labels, load_scores, load_strata, load_windows
from autointerp.errors import AutointerpError
from autointerp.evidence.store import EvidenceStore
from autointerp.report.feature import FeaturePages, _without_halves, is_right
from autointerp.runs.directory import Run
from autointerp.tables.edits import Edit, add_edit
from autointerp.tables.write import read_drafts, write_labels
from autointerp.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def pages(finished) -> FeaturePages:
    return FeaturePages(finished)


@pytest.mark.parametrize("feature", [0, 3, 12, 13])
def test_a_page_has_the_rows_of_all_tables(pages, finished, feature):
    page = pages.page(feature)
    row = load_labels(finished.path).set_index("feature").loc[feature]
    assert page.row["status"] == row["status"]
    assert page.row["label"] == (None if pd.isna(row["label"]) else row["label"])
    scores = load_scores(finished.path)
    assert len(page.scores) == (scores["feature"] == feature).sum()
    windows = load_windows(finished.path, feature)
    own = [w for w in page.windows.values() if w.kind != "corpus"]
    names = windows[["kind", "split", "rank"]].itertuples(index=False, name=None)
    assert [(w.kind, w.split, w.rank) for w in own] == list(names)
    for shown, activations in zip(own, windows["activations"], strict=True):
        np.testing.assert_allclose(shown.activations, activations, rtol=1e-3)
    assert sum(page.statistics.histogram) == page.statistics.n_active == row["n_active"]


def test_what_the_judge_said_adds_up_to_the_strata(pages, finished):
    """Over all pages: yes by stratum and by decile, as load_strata counts them by itself."""
    strata = load_strata(finished.path).query("scorer == 'detection' and label == 'own'")
    every = [pages.page(int(f)) for f in load_labels(finished.path)["feature"]]
    judged = [j for page in every for j in page.judged if j.label_of == page.feature]
    for row in strata.to_dict("records"):
        if row["stratum"].endswith("%"):
            decile = int(row["stratum"].split("–")[0]) // 10
            found = [d for page in every for d in page.deciles if d.decile == decile]
            assert sum(d.n for d in found) == row["n"]
            assert sum(d.found for d in found) == round(row["said_yes"] * row["n"])
        else:
            of = [j for j in judged if j.scorer == "detection" and j.stratum == row["stratum"]]
            assert len(of) == row["n"]
            assert sum(not j.right for j in of) == round(row["said_yes"] * row["n"])


@pytest.mark.parametrize(
    ("scorer", "truth", "prediction", "right"),
    [
        ("detection", 1.0, 1.0, True),
        ("detection", 0.0, 1.0, False),
        ("detection", 1.0, None, None),
        ("fuzzing", 0.0, 0.0, True),
        ("intruder", 1.0, 1.0, True),  # places among the five
        ("intruder", 4.0, 4.0, True),
        ("intruder", 4.0, 1.0, False),
        ("discrimination", 1.0, 0.0, False),
        ("discrimination", 1.0, 0.5, None),  # a label that another feature has as well
        ("fade", 0.0, 0.0, None),  # an activation, and a rating
        ("fade", 1.0, 0.0, None),
        ("simulation", None, None, None),
    ],
)
def test_right_and_wrong_are_what_the_scorer_means_by_them(scorer, truth, prediction, right):
    assert is_right({"scorer": scorer, "truth": truth, "prediction": prediction}) is right


def test_every_judged_window_can_be_read(pages):
    page = pages.page(0)
    assert page.judged
    for judgment in page.judged:
        window = page.windows[judgment.window]
        if judgment.stratum == "fires":
            assert max(window.activations) > 0
        else:
            assert max(window.activations) == 0
        if judgment.token_prediction is not None:
            assert len(judgment.token_prediction) == len(window.tokens)


def test_related_features_have_their_labels(pages, finished):
    labels = load_labels(finished.path).set_index("feature")["label"]
    related = pages.page(0).statistics.similar
    assert related
    for one in related:
        assert one.label == (None if pd.isna(labels[one.feature]) else labels[one.feature])


def test_pages_are_json_without_nan(pages, finished):
    for feature in load_labels(finished.path)["feature"]:
        json.dumps(asdict(pages.page(int(feature))), allow_nan=False)


def test_windows_by_kind_and_split(pages):
    every = pages.windows(1)
    top = pages.windows(1, kind="top", split="label")
    assert top == [w for w in every if w.kind == "top" and w.split == "label"]
    assert 0 < len(top) < len(every)


def test_a_run_without_labels_has_pages(finished, tmp_path):
    for name in ("windows", "features", "vocabulary"):
        shutil.copy(finished.path / f"{name}.parquet", tmp_path)
    page = FeaturePages(Run(tmp_path)).page(0)
    assert page.row == {}
    assert page.windows
    assert not page.judged
    assert not page.scores


def test_scores_of_labels_before_are_not_shown_beside_new_ones(finished, tmp_path):
    """Labeled anew, the table has no scores until `score` has run; their files are still there."""
    run = Run(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    store = EvidenceStore(run.windows, run.features)
    write_labels("c", read_drafts(run.drafts), store.statistics, {}, {}, False, run.labels)
    page = FeaturePages(run).page(0)
    assert page.row["label"]
    assert not page.scores
    assert not page.judged
    assert not page.deciles


def test_a_feature_that_is_not_there(pages):
    with pytest.raises(AutointerpError, match="feature 14 was not collected"):
        pages.page(14)


def test_what_people_said_is_on_the_page(finished, tmp_path):
    run = Run(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    similar = FeaturePages(run).page(0).statistics.similar[0].feature
    now = datetime.now(UTC)
    add_edit(run, Edit(0, "label", "Ada", now, label="mine"))
    add_edit(run, Edit(0, "vote", "Ada", now, vote=1))
    add_edit(run, Edit(similar, "model_label", "a model", now, label="another"))
    page = FeaturePages(run).page(0)
    own = load_labels(finished.path).set_index("feature").loc[0, "label"]
    assert page.row["label"] == "mine"
    assert page.row["original_label"] == own
    assert page.row["votes"] == 1
    assert page.row["detection_balanced_accuracy"] is None  # that of another label
    assert [edit.kind for edit in page.edits] == ["label", "vote"]
    assert page.statistics.similar[0].label == "another"


@pytest.mark.parametrize(
    ("window", "shown"),
    [
        ((1, 2, 0, 1), [" ", "─", "a", " "]),  # ends in a character's beginning
        ((2, 0, 1, 2), ["", "a", " ", "─"]),  # begins with the end of one
        ((0, 1, 0), ["a", " \ufffd\ufffd", "a"]),  # bytes that were never a character
    ],
)
def test_characters_that_a_window_cuts_through_are_not_shown(window, shown):
    vocabulary = Vocabulary((b"a", b" \xe2\x94", b"\x80"), frozenset())
    assert _without_halves(list(window), vocabulary) == shown
