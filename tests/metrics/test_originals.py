"""Agreement with the tools whose scores are quoted, and where they are not followed.

tests/data/metrics holds what their own code made of the same truths and predictions, written by
scripts/peer_samples/metric_samples.py: OpenAI's neuron-explainer 0.0.1, Delphi (eai-delphi) 0.1.3
and SAEBench 0.6.0. null stands for what was not a number.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from autointerp.metrics import metrics
from autointerp.metrics.confusion import confusion
from autointerp.metrics.metrics import BINARY

DATA = Path(__file__).parents[1] / "data" / "metrics"
OPENAI = json.loads((DATA / "openai.json").read_text())["samples"]
DELPHI = {group["kind"]: group for group in json.loads((DATA / "delphi.json").read_text())}
SAEBENCH = json.loads((DATA / "saebench.json").read_text())

EXACT = 1e-6
OPENAI_NAMES = {
    "ev_correlation_score": metrics.pearson,
    "rsquared_score": metrics.uncentred_r_squared,
    "absolute_dev_explained_score": metrics.absolute_deviation_explained,
}


def equal(value, recorded):
    expected = np.nan if recorded is None else recorded
    assert float(value) == pytest.approx(expected, abs=EXACT, nan_ok=True)


@pytest.mark.parametrize("name", OPENAI_NAMES)
@pytest.mark.parametrize("sample", OPENAI)
def test_simulation_scores_equal_openai(sample, name):
    recorded, metric = OPENAI[sample], OPENAI_NAMES[name]
    truths, predictions = np.array(recorded["truths"]), np.array(recorded["predictions"])
    equal(metric(truths.ravel(), predictions.ravel()), recorded["together"][name])
    for truth, prediction, window in zip(truths, predictions, recorded["windows"], strict=True):
        equal(metric(truth, prediction), window[name])


def flat(sample):
    recorded = OPENAI[sample]
    return np.ravel(recorded["truths"]), np.ravel(recorded["predictions"])


def test_a_mean_over_windows_is_another_score():
    # OpenAI correlates all tokens at once; averaging windows leaves the silent ones out, where a
    # correlation is not defined and a wide label goes wrong.
    recorded = OPENAI["uncalibrated"]
    windows = [window["ev_correlation_score"] for window in recorded["windows"]]
    defined = [score for score in windows if score is not None]
    assert 0 < len(defined) < len(windows)
    equal(metrics.pearson(*flat("uncalibrated")), recorded["preferred_score"])
    assert abs(np.mean(defined) - recorded["preferred_score"]) > 0.01


def test_linear_calibration_moves_explained_variance_but_not_correlation():
    plain, calibrated = flat("uncalibrated"), flat("linear_held_out")
    assert metrics.pearson(*calibrated) == pytest.approx(metrics.pearson(*plain), abs=EXACT)
    assert metrics.explained_variance(*calibrated) > metrics.explained_variance(*plain)


def test_variance_explained_after_calibration_on_the_same_data_is_only_the_correlation():
    # Why it is not a score of its own: fitted on what is scored, it is the square of Pearson's.
    truth, prediction = flat("linear_in_sample")
    squared = metrics.pearson(truth, prediction) ** 2
    assert metrics.explained_variance(truth, prediction) == pytest.approx(squared, abs=EXACT)


def test_rsquared_is_not_about_the_mean():
    # OpenAI divides by the mean square, so that most of a silent feature is explained by zeros.
    truth, prediction = flat("linear_held_out")
    assert metrics.uncentred_r_squared(truth, 0 * truth) == 0
    assert metrics.uncentred_r_squared(truth, np.full_like(truth, truth.mean())) > 0
    assert metrics.explained_variance(truth, np.full_like(truth, truth.mean())) == pytest.approx(0)
    about_zero = metrics.uncentred_r_squared(truth, prediction)
    assert about_zero - metrics.explained_variance(truth, prediction) > 0.01


def judged(kind):
    """Truth, prediction and probability of a group, without what could not be read."""
    group = DELPHI[kind]
    columns = (group["activating"], group["prediction"], group["probability"])
    read = [row for row in zip(*columns, strict=True) if row[1] is not None]
    truth, prediction, probability = map(np.array, zip(*read, strict=True))
    return truth.astype(bool), prediction.astype(bool), probability


DELPHI_NAMES = {
    "accuracy": "balanced_accuracy",  # what Delphi calls accuracy
    "precision": "precision",
    "recall": "recall",
    "f1_score": "f1",
    "true_negative_rate": "specificity",
}


@pytest.mark.parametrize("kind", ["good", "bad", "unreadable"])
def test_detection_metrics_equal_delphi(kind):
    truth, prediction, probability = judged(kind)
    for theirs, ours in DELPHI_NAMES.items():
        equal(BINARY[ours](truth, prediction), DELPHI[kind]["metrics"][theirs])
    equal(metrics.auroc(truth, probability), DELPHI[kind]["auc"])


@pytest.mark.parametrize(
    ("kind", "differing"),
    [
        ("none predicted", {"precision"}),
        ("no positives", {"accuracy", "recall"}),
        ("no negatives", {"accuracy", "true_negative_rate"}),
    ],
)
def test_what_delphi_makes_zero_is_missing(kind, differing):
    # A feature without a silent window is not one whose silent windows are all judged wrong: a 0
    # pulls its balanced accuracy down to half of its recall.
    truth, prediction, _ = judged(kind)
    for theirs, ours in DELPHI_NAMES.items():
        value = float(BINARY[ours](truth, prediction))
        recorded = DELPHI[kind]["metrics"][theirs]
        if theirs in differing:
            assert np.isnan(value)
            assert recorded < 0.5
        else:
            equal(value, recorded)


def test_delphi_does_not_count_what_could_not_be_read():
    # It subtracts the readable ones from themselves, so that nothing ever fails.
    group = DELPHI["unreadable"]
    assert group["prediction"].count(None) == 10
    assert group["failed_count"] == 0
    assert group["metrics"]["total_examples"] == 30


def test_delphi_pools_the_windows_of_all_features():
    # One F1 of all windows is not the mean of the features' own, and has no spread among them.
    pooled = [np.concatenate(side) for side in zip(judged("good"), judged("bad"), strict=True)]
    recorded = DELPHI["first two pooled"]["metrics"]
    for theirs, ours in DELPHI_NAMES.items():
        equal(BINARY[ours](pooled[0], pooled[1]), recorded[theirs])
    own = [float(BINARY["f1"](*judged(kind)[:2])) for kind in ("good", "bad")]
    assert abs(np.mean(own) - recorded["f1_score"]) > 0.005


def classes(sample):
    """Truth and prediction of SAEBench's fourteen windows, as it reads a reply."""
    numbers = range(1, len(sample["active"]) + 1)
    return np.array(sample["active"]), np.array([i in sample["read"] for i in numbers])


def test_the_score_of_saebench_is_accuracy():
    read = [sample for sample in SAEBENCH if sample["read"] is not None]
    assert len(read) == 6
    for sample in read:
        equal(BINARY["accuracy"](*classes(sample)), sample["score"])


def test_saying_never_scores_well_in_saebench_and_at_chance_by_balanced_accuracy():
    # Ten of the fourteen windows are negatives; an empty reply is taken for "None".
    for reply in ("None", ""):
        sample = next(s for s in SAEBENCH if s["reply"] == reply)
        assert sample["score"] == pytest.approx(10 / 14)
        c = confusion(*classes(sample))
        assert c.balanced_accuracy == 0.5
        assert c.f1 == 0
        assert np.isnan(c.mcc)


def test_saebench_leaves_features_out_whose_reply_it_cannot_read():
    # Nor does it mind the number of a window that is not there.
    unread = [sample for sample in SAEBENCH if sample["read"] is None]
    assert [sample["score"] for sample in unread] == [None, None]
    assert next(s for s in SAEBENCH if s["reply"] == "1, 2, 99")["score"] is not None
