"""--score-share: a part of the labels is scored, more of them later, and nothing is paid twice."""

import re

import numpy as np
import pytest

import autointerp
from autointerp.labeling.labeler import Draft
from autointerp.metrics.expectation import MIN_MEASURED
from autointerp.runs.directory import Run
from autointerp.scoring.null import scored_sample
from autointerp.stages.score.judged_labels import judged_labels
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.planted import plant


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


def scored(out):
    labels = autointerp.load_labels(out).set_index("feature")
    return set(labels.index[labels["detection_balanced_accuracy"].notna()])


def test_raising_the_share_scores_only_what_is_new(cli, planted, tmp_path):
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, "--scorers", "detection"]
        flags += [*planted.flags(out), "--null-share", "0", "--min-windows", "5"]
        assert cli("collect", *flags)[0] == 0
        assert cli("label", *flags)[0] == 0
        asked, drawn = [len(server.requests)], []
        for share, expected in ((0.25, 3), (1.0, 12)):
            more = [*flags, "--score-share", str(share)]
            _, _, said = cli("score", *more, "--dry-run")
            assert int(re.search(r"score: (\d+) requests", said)[1]) == expected
            code, shown, said = cli("run", *more)
            assert code == 0, said
            assert "label: already done" in said
            asked.append(len(server.requests))
            drawn.append(scored(out))
            assert ("scored" in shown) == (share < 1)
            if share < 1:
                assert f"{expected} of 12 labels (--score-share {share:g})" in shown
                assert f"at least {MIN_MEASURED} are needed" in " ".join(
                    shown.replace("│", " ").split()
                )
        assert [len(one) for one in drawn] == [3, 12]
        assert drawn[0] < drawn[1]
        # One request scores a feature, and no request is sent a second time.
        assert np.diff(asked).tolist() == [3, 9]
        assert len(server.served) == len(server.requests)
        # Without the setting nothing is to be done again.
        assert "score: already done" in cli("run", *flags)[2]
    assert Run(out).record().config["score_share"] == 1.0


def test_rules_are_scored_in_part_and_the_rest_has_an_f1_to_expect(cli, tmp_path):
    world = plant(tmp_path, features=60, contexts=600)
    out = tmp_path / "out"
    code, shown, said = cli("run", *world.flags(out), "--score-share", "0.8", "--seed", "3")
    assert code == 0, said
    labels = autointerp.load_labels(out)
    labels = labels[labels["status"] == "labeled"]
    rest = labels[labels["population_f1"].isna()]
    assert len(labels) - len(rest) == round(0.8 * len(labels)) >= MIN_MEASURED
    assert f"{len(rest)} labels that were not scored" in " ".join(shown.replace("│", " ").split())
    for column in ("expected_f1", "expected_f1_ci_low", "expected_f1_ci_high"):
        assert labels[column].between(0, 1).all()
    # Nulls are other features' labels, also of those that are not scored.
    assert labels["detection_null"].notna().sum() == len(labels) - len(rest)
    scores = autointerp.load_scores(out)
    assert set(scores["feature"]) == set(labels["feature"]) - set(rest["feature"])


def test_a_draw_is_stable_and_nested():
    features = list(range(0, 3000, 3))
    small, large = (scored_sample(features, share, 7) for share in (0.1, 0.3))
    assert (len(small), len(large)) == (100, 300)
    assert set(small) < set(large)
    assert small == sorted(small) != scored_sample(features, 0.1, 8)
    assert scored_sample(features, 1.0, 7) == features
    assert len(scored_sample([5, 6], 0.01, 0)) == 1
    assert scored_sample([], 0.5, 0) == []
    # Of those drawn from a part of the features most are drawn from all of them.
    half = set(scored_sample(features[:500], 0.1, 7))
    assert len(half & set(small)) > 0.7 * len(half)


def test_all_labels_may_serve_as_null_of_those_that_are_scored():
    drafts = {f: Draft(f, "labeled", "m", label=f"label {f}") for f in range(300)}
    statistics = {f: {"n_active": f} for f in drafts}
    part = judged_labels(drafts, statistics, 0.2, 1.0, 0)
    assert len(part.features) == 60
    assert set(part.nulls) == set(part.features)
    assert set(part.nulls.values()) - set(part.features)
    whole = judged_labels(drafts, statistics, 1.0, 1.0, 0)
    assert all(whole.nulls[f] == other for f, other in part.nulls.items())


@pytest.mark.parametrize("share", ["0", "-1", "1.5"])
def test_a_share_is_above_0_and_at_most_1(cli, planted, tmp_path, share):
    code, _, said = cli("run", *planted.flags(tmp_path / "out"), "--score-share", share)
    assert code == 2
    assert "score_share" in said
