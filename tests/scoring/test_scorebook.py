import numpy as np
import pytest

from autointerp.scoring.scorebook import Scorebook
from autointerp.scoring.scorer import FIRES, Item, Judged, Judgment, Plan, answer
from tests.support.samples import window

SHARES = {"similar": 0.1, "other": 0.9}


def judged(feature, label_of, right, items=40, unread=0):
    """Half of the items fire; the judge is right on the share `right` of either half."""
    kinds = [FIRES] * (items // 2) + ["similar", "other"] * (items // 4)
    made = [Item(window([1], [float(k == FIRES)]), k, answer(k == FIRES)) for k in kinds]
    said = []
    for half in (range(items // 2), range(items // 2, items)):
        for n, i in enumerate(half):
            good = n < right * len(half)
            truth = made[i].truth[0] > 0
            said.append(Judgment(made[i], answer(bool(truth) == good)))
    said = [Judgment(j.item, None) if i < unread else j for i, j in enumerate(said)]
    plan = Plan(feature, made, 0.05, SHARES)
    return Judged(plan, "detection", label_of, said, prompt_tokens=7, error="odd")


def of(scores, metric):
    return next(s for s in scores if s.metric == metric)


def test_a_score_stands_beside_its_null_and_those_of_all_features():
    nulls = {f: (f + 1) % 10 for f in range(10)}
    book = Scorebook(nulls, seed=0, precision=None)
    for f in range(12):
        done = book.take(judged(f, f, 1.0 if f != 3 else 0.2))
        assert done == (f not in nulls)
    for f, other in nulls.items():
        assert book.take(judged(f, other, f / 20))
    scores = book.scores()
    assert sorted(scores) == list(range(12))
    found = {f: of(s, "balanced_accuracy") for f, s in scores.items()}
    values = sorted(of(scores[f], "balanced_accuracy").null_value for f in nulls)
    for f, score in found.items():
        assert score.null_value == (pytest.approx(f / 20, abs=0.03) if f in nulls else None)
        assert score.parse_rate == 1
        as_good = sum(v >= score.estimate.value for v in values)
        assert score.p_value == pytest.approx((1 + as_good) / 11)
        middle = np.median(values)
        assert score.lift == pytest.approx((score.estimate.value - middle) / (1 - middle))
    assert found[0].p_value < found[3].p_value
    for f in range(12):
        assert {s.metric for s in scores[f]} >= {"population_f1", "population_mcc"}
    assert of(scores[0], "population_f1").null_value is not None
    assert of(scores[11], "population_f1").null_value is None
    # What was spent on the null is the feature's, its complaint is not.
    assert [j.prompt_tokens for j in book.spent[0]] == [7, 7]
    assert [j.error for j in book.spent[0]] == ["odd", None]
    assert all(not j.judgments and not j.plan.items for j in book.spent[0])


def test_labels_and_nulls_of_the_same_answers_are_scored_alike():
    """With a prior of their own, good labels lend a useless one among them some of their F1."""
    features = range(120)
    nulls = {f: (f + 1) % 120 for f in features}
    book = Scorebook(nulls, seed=0, precision=None)
    useless = range(60, 120)
    for f in features:
        book.take(judged(f, f, 0.5 if f in useless else 1.0))
        book.take(judged(f, nulls[f], 0.5))
    scores = book.scores()
    for metric in ("population_f1", "population_precision", "population_recall", "population_mcc"):
        p_values = [of(scores[f], metric).p_value for f in useless]
        assert 0.3 < np.mean(p_values) < 0.7, metric
        assert np.mean([p <= 0.05 for p in p_values]) < 0.1, metric
    # What is shown of labels is learned from labels alone.
    alone = Scorebook({}, seed=0, precision=None)
    for f in features:
        alone.take(judged(f, f, 0.5 if f in useless else 1.0))
    for f, of_feature in alone.scores().items():
        assert of(of_feature, "population_f1").estimate == of(scores[f], "population_f1").estimate


def test_q_values_are_of_all_features_of_a_run():
    nulls = {f: (f + 1) % 60 for f in range(60)}
    book = Scorebook(nulls, seed=0, precision=None)
    for f in range(60):
        book.take(judged(f, f, 1.0 if f < 50 else 0.3))
        book.take(judged(f, nulls[f], 0.3 + 0.4 * (f % 7) / 7))
    scores = [of(s, "balanced_accuracy") for _, s in sorted(book.scores().items())]
    assert all(s.q_value <= 0.05 for s in scores[:50])
    assert all(s.q_value > 0.05 for s in scores[50:])
    assert all(s.q_value >= s.p_value for s in scores)


def test_what_could_not_be_read_is_counted_and_missing():
    book = Scorebook({}, seed=0, precision=None)
    book.take(judged(0, 0, 1.0, unread=10))
    book.take(judged(1, 1, 1.0, unread=40))
    scores = book.scores()
    assert of(scores[0], "balanced_accuracy").parse_rate == 0.75
    assert of(scores[0], "balanced_accuracy").estimate.value == 1
    assert of(scores[1], "balanced_accuracy").parse_rate == 0
    for score in scores[1]:
        assert np.isnan(score.estimate.value)
        assert score.p_value is None
        assert score.lift is None


def test_with_a_precision_the_interval_is_one_that_holds_at_every_look():
    fixed, sequential = (Scorebook({}, 0, precision) for precision in (None, 0.1))
    for book in (fixed, sequential):
        book.take(judged(0, 0, 0.9))
    narrow, wide = (of(b.scores()[0], "balanced_accuracy").estimate for b in (fixed, sequential))
    assert narrow.value == pytest.approx(wide.value)
    assert wide.ci_low < narrow.ci_low
    assert wide.ci_high > narrow.ci_high
