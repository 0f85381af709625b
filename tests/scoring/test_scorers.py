import numpy as np
import pytest

from autointerp.scoring.null import Labeled, null_partners
from autointerp.scoring.scorer import FIRES, Item, Judged, Judgment, Material, Plan
from autointerp.scoring.scorers import detection, intruder, simulation
from autointerp.scoring.strata import OTHER, SAME_TOKEN, SIMILAR, strata_of
from tests.support.samples import corpus_of, evidence, window

# In windows 0 to 9 feature 3 fires, in 10 to 14 the similar feature 8; token 1 is its own.
CORPUS = corpus_of(
    {i: [3] for i in range(10)} | {i: [8] for i in range(10, 15)},
    {i: [1, 5] for i in range(15, 19)},
    windows=200,
)


def feature(sample: int = 30, top: int = 10):
    windows = [
        window([1, 2], [float(i + 1), 0], kind="sample", split="score", context=i)
        for i in range(sample)
    ]
    windows += [
        window([1, 2], [50.0 + i, 0], kind="top", split="score", context=i) for i in range(top)
    ]
    windows += [window([1, 2], [9.0, 0], kind=k, split="label") for k in ("top", "sample")]
    return evidence(3, windows, similar=[(8, 0.9)])


def material(**counts) -> Material:
    found = feature(**counts)
    return Material(found, CORPUS, strata_of(CORPUS, found), seed=0)


def judged(plan: Plan, scorer: str, predict) -> Judged:
    return Judged(plan, scorer, plan.feature, [Judgment(i, predict(i)) for i in plan.items])


def test_detection_windows_are_unseen_and_spread_over_the_range():
    plan = detection.plan(material(), detection.DetectionSettings(windows=10))
    assert len(plan.items) == 25
    assert all(i.window.split == "score" for i in plan.items)
    assert all(i.window.fires == (i.stratum == FIRES) == bool(i.truth[0]) for i in plan.items)
    strengths = sorted(float(i.window.activations.max()) for i in plan.items if i.stratum == FIRES)
    # One from each tenth of the 30 sampled windows, none from the top ones.
    assert [int((s - 1) // 3) for s in strengths] == list(range(10))
    again = detection.plan(material(), detection.DetectionSettings(windows=10))
    assert [i.window.context for i in plan.items] == [i.window.context for i in again.items]
    order = [i.stratum for i in plan.items]
    assert order != sorted(order)


def test_silent_windows_come_from_their_strata():
    plan = detection.plan(material(), detection.DetectionSettings(windows=10))
    by_stratum = {}
    for item in plan.items:
        by_stratum.setdefault(item.stratum, []).append(item.window.rank)
    assert set(by_stratum[SIMILAR]) <= set(range(10, 15))
    assert set(by_stratum[SAME_TOKEN]) <= set(range(15, 19))
    assert set(by_stratum[OTHER]) <= set(range(19, 200))
    # Two tenths of the fifteen each.
    assert {n: len(w) for n, w in by_stratum.items()} == {
        FIRES: 10, SIMILAR: 3, SAME_TOKEN: 3, OTHER: 9,
    }  # fmt: skip
    assert all(len(set(w)) == len(w) for n, w in by_stratum.items() if n != FIRES)


def test_top_windows_fill_up_a_small_sample_without_repeating_a_context():
    plan = detection.plan(material(sample=4), detection.DetectionSettings(windows=20))
    chosen = [i.window for i in plan.items if i.stratum == FIRES]
    assert len(chosen) == 4 + 6
    assert len({w.context for w in chosen}) == 10


def test_a_perfect_judge_scores_one_and_an_inverted_one_zero():
    plan = detection.plan(material(), detection.DetectionSettings(windows=10))
    for right, value in ((True, 1.0), (False, 0.0)):
        found = detection.reduce(
            judged(plan, "detection", lambda i, r=right: abs(i.truth - 1 + r)), 0
        )
        for metric in ("balanced_accuracy", "near_miss_balanced_accuracy"):
            assert found[metric].value == pytest.approx(value)
        assert found["balanced_accuracy"].n == 25
        assert found["near_miss_balanced_accuracy"].n == 13


def test_unreadable_judgments_are_missing_never_wrong():
    plan = detection.plan(material(), detection.DetectionSettings(windows=10))
    odd = {id(item) for item in plan.items[1::2]}
    half = judged(plan, "detection", lambda i: None if id(i) in odd else i.truth)
    found = detection.reduce(half, 0)
    assert found["balanced_accuracy"].value == pytest.approx(1.0)
    assert found["balanced_accuracy"].n == 13
    assert half.parse_rate() == pytest.approx(13 / 25)
    found = detection.reduce(judged(plan, "detection", lambda _: None), 0)
    assert np.isnan(found["balanced_accuracy"].value)


def test_simulation_scores_tokens_on_the_features_scale():
    plan = simulation.plan(material(), simulation.SimulationSettings(windows=10))
    assert sum(i.window.fires for i in plan.items) == 5
    assert max(i.truth.max() for i in plan.items) <= 10
    exact = judged(plan, "simulation", lambda i: i.truth)
    assert simulation.reduce(exact, 0)["correlation"].value == pytest.approx(1.0, abs=1e-6)
    opposite = judged(plan, "simulation", lambda i: 10 - i.truth)
    assert simulation.reduce(opposite, 0)["correlation"].value == pytest.approx(-1.0, abs=1e-6)


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


def test_a_judge_that_contradicts_itself_has_said_nothing():
    item = Item(window([1, 2], [0, 1]), FIRES, np.zeros(2, np.float32))
    twice = '{"sets": [{"n": 1, "intruder": 1}, {"n": 2, "intruder": 3}, {"n": 1, "intruder": 2}]}'
    read = intruder.SCORER.task.read(twice, [item, item], False)
    assert {n: v.tolist() for n, v in read.items()} == {1: [3.0]}
    twice = (
        '{"windows": [{"w": 1, "activations": [0, 1]}, {"w": 2, "activations": [0, 2]},'
        ' {"w": 1, "activations": [5, 1]}, {"w": 2, "activations": [0, 2]}]}'
    )
    read = simulation.SCORER.task.read(twice, [item, item], False)
    assert {n: v.tolist() for n, v in read.items()} == {1: [0.0, 2.0]}


def test_simulation_takes_top_windows_and_random_ones_where_asked():
    corpus = corpus_of({i: [3] for i in range(10)}, {}, windows=60)
    found = feature()
    given = Material(found, corpus, strata_of(corpus, found), seed=0)
    usual = simulation.plan(given, simulation.SimulationSettings())
    plan = simulation.plan(given, simulation.SimulationSettings(top_windows=20))
    by_stratum = {}
    for item in plan.items:
        by_stratum.setdefault(item.stratum, []).append(item.window)
    top, random = by_stratum.pop("top_window"), by_stratum.pop("random_window")
    assert {(w.kind, w.split) for w in top} == {("top", "score")}
    assert len(top) == 10  # all there are
    assert len(random) == 20
    # Windows of the corpus; of those in which it fires, others of the sample with activations.
    assert {(w.kind, w.fires) for w in random} == {("sample", True), ("corpus", False)}
    other = [w for windows in by_stratum.values() for w in windows]
    assert {id(w) for w in other}.isdisjoint(map(id, random))
    assert len({(w.kind, w.context) for w in [*other, *random]}) == 30
    # The windows of all other metrics are those of before.
    assert {w.context for w in other} == {i.window.context for i in usual.items}

    scores = simulation.reduce(judged(plan, "simulation", lambda i: i.truth), 0)
    without = simulation.reduce(judged(usual, "simulation", lambda i: i.truth), 0)
    assert scores.keys() - without.keys() == {
        "top_and_random_correlation", "random_only_correlation",
    }  # fmt: skip
    assert scores["top_and_random_correlation"].n == 30
    assert scores["random_only_correlation"].n == 20
    assert scores["correlation"].n == without["correlation"].n == 10
    assert all(scores[n].value == pytest.approx(1) for n in (*scores.keys() - without.keys(),))


def test_random_only_correlation_is_missing_where_the_feature_fires_in_none():
    corpus = corpus_of({}, {}, windows=60)
    found = feature()
    given = Material(found, corpus, strata_of(corpus, found), seed=0)
    plan = simulation.plan(given, simulation.SimulationSettings(top_windows=5))
    scores = simulation.reduce(judged(plan, "simulation", lambda i: i.truth), 0)
    assert np.isnan(scores["random_only_correlation"].value)
    assert scores["top_and_random_correlation"].value == pytest.approx(1)
