import numpy as np
import pytest

from autointerp.scoring import detection, simulation
from autointerp.scoring.null import Labeled, null_partners
from autointerp.scoring.scorer import Judged
from tests.samples import evidence, window


def feature(sample: int = 30, top: int = 10, negative: int = 30):
    windows = [
        window([1, 2], [float(i + 1), 0], kind="sample", split="score", context=i)
        for i in range(sample)
    ]
    windows += [
        window([1, 2], [50.0 + i, 0], kind="top", split="score", context=i) for i in range(top)
    ]
    windows += [
        window([1, 2], [0, 0], kind="negative", split="score", context=1000 + i)
        for i in range(negative)
    ]
    windows += [window([1, 2], [9.0, 0], kind=k, split="label") for k in ("top", "sample")]
    return evidence(3, windows)


def test_detection_windows_are_unseen_and_spread_over_the_range():
    chosen = detection.plan(feature(), 10, seed=0)
    assert len(chosen) == 20
    assert all(w.split == "score" for w in chosen)
    fires = [w for w in chosen if w.fires]
    assert len(fires) == 10
    strengths = sorted(float(w.activations.max()) for w in fires)
    # One from each tenth of the 30 sampled windows, none from the top ones.
    assert [int((s - 1) // 3) for s in strengths] == list(range(10))
    again = detection.plan(feature(), 10, seed=0)
    assert [w.context for w in chosen] == [w.context for w in again]
    assert [w.fires for w in chosen] != sorted((w.fires for w in chosen), reverse=True)


def test_top_windows_fill_up_a_small_sample_without_repeating_a_context():
    chosen = [w for w in detection.plan(feature(sample=4), 20, seed=0) if w.fires]
    assert len(chosen) == 4 + 6
    assert len({w.context for w in chosen}) == 10


def test_a_perfect_judge_scores_one_and_an_inverted_one_zero():
    windows = detection.plan(feature(), 10, seed=0)
    for right, value in ((True, 1.0), (False, 0.0)):
        judgments = [detection.judgment(w, w.fires == right) for w in windows]
        found = detection.reduce(Judged(3, "detection", 3, judgments), 0.1, 0)
        assert found["balanced_accuracy"].value == value
        assert found["balanced_accuracy"].n == 20


def test_unreadable_judgments_are_missing_never_wrong():
    windows = detection.plan(feature(), 10, seed=0)
    judgments = [detection.judgment(w, None if i % 2 else w.fires) for i, w in enumerate(windows)]
    found = detection.reduce(Judged(3, "detection", 3, judgments), 0.1, 0)
    assert found["balanced_accuracy"].value == 1.0
    assert found["balanced_accuracy"].n == 10
    nothing = [detection.judgment(w, None) for w in windows]
    found = detection.reduce(Judged(3, "detection", 3, nothing), 0.1, 0)
    assert np.isnan(found["balanced_accuracy"].value)


def test_simulation_scores_tokens_on_the_features_scale():
    windows = simulation.plan(feature(), 10, seed=0)
    assert sum(w.fires for w in windows) == 5
    exact = [simulation.judgment(w, w.activations, 59.0) for w in windows]
    assert max(j.truth.max() for j in exact) <= 10
    found = simulation.reduce(Judged(3, "simulation", 3, exact), 0)
    assert found["correlation"].value == pytest.approx(1.0, abs=1e-6)
    opposite = [simulation.judgment(w, 10 - w.activations, 59.0) for w in windows]
    found = simulation.reduce(Judged(3, "simulation", 3, opposite), 0)
    assert found["correlation"].value == pytest.approx(-1.0, abs=1e-6)


def test_nulls_have_another_label_and_about_the_same_density():
    labeled = [Labeled(i, f"label {i % 7}", 10 * i) for i in range(200)]
    partners = null_partners(labeled, seed=0)
    assert sorted(partners) == list(range(200))
    for own, other in partners.items():
        assert own % 7 != other % 7
        assert abs(own - other) <= 16
    assert partners == null_partners(labeled[::-1], seed=0)
    assert len(set(partners.values())) > 50


def test_where_all_labels_are_the_same_there_is_no_null():
    assert null_partners([Labeled(i, "Same", i) for i in range(5)], 0) == {}
    assert null_partners([Labeled(1, "one", 1)], 0) == {}
    few = [Labeled(i, "same", i) for i in range(60)] + [Labeled(60, "other", 60)]
    assert null_partners(few, 0)[0] == 60
