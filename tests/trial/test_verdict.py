"""What is said of a judge, over many trials of judges whose accuracy is known."""

import numpy as np
import pytest
from scipy.stats import norm

from autointerp.config.settings import RunConfig
from autointerp.metrics.estimates import wilson
from autointerp.trial import verdict
from autointerp.trial.trial_record import JudgeWay, LabelWay, SimulationWay, TrialRecord
from tests.support.judges import ways_of

TRIALS = 250


def share_of_good(accuracy) -> float:
    rng = np.random.default_rng(16)
    return sum(verdict.is_any_good(ways_of(accuracy, rng)) for _ in range(TRIALS)) / TRIALS


def test_a_coin_passes_in_few_trials():
    # 0.022 in 4,000 trials.
    assert share_of_good(lambda form, items: 0.5) <= 0.05


@pytest.mark.parametrize(
    "accuracy",
    [
        lambda form, items: 0.8,
        lambda form, items: 0.8 if form == "quotes" else 0.5,
        lambda form, items: 0.8 if form == "lists" and items <= 12 else 0.5,
    ],
)
def test_a_judge_of_four_fifths_is_hardly_ever_stopped(accuracy):
    # 0 in 1,000 trials were, and in 2,000 0.001 and 0.015 where but one form is that good.
    assert share_of_good(accuracy) >= 0.95


def test_intervals_of_several_hold_at_once():
    for n in (10, 60):
        for k in (0, 3, n / 2, n):
            low, high = wilson(k, n, comparisons=7)
            # The interval is where a score test of this level does not reject.
            z = norm.ppf(1 - 0.025 / 7)
            for bound in (low, high):
                error = np.sqrt(bound * (1 - bound) / n)
                assert abs(k / n - bound) == pytest.approx(z * error, abs=1e-6)
    assert wilson(5, 10, comparisons=1) == wilson(5, 10)


def judged(form, items, right, asked, **more):
    counts = {"asked": asked, "answered": asked, "yes": asked // 2, "right": right} | more
    return JudgeWay(task="detection", form=form, items=items, **counts)


def labeled(size, right, features=12, **more):
    none = dict.fromkeys(("copied", "declined", "alike", "mended"), 0)
    counts = {"features": features, "readable": features, "right": right}
    return LabelWay(**none | counts | more, size=size)


def record(*judging, labels=(), simulation=(), **more):
    facts = {
        "inputs": "", "given": {}, "model": "m", "endpoint": "u", "tried_at": "", "templates": {},
        "labels": list(labels), "judging": list(judging), "simulation": list(simulation),
        "not_given": [], "response_format": "json_schema", "requests": 1, "recalled": 0,
        "prompt_tokens": 1, "completion_tokens": 1, "cost_usd": None, "tokens_per_s": None,
        "failures": [],
    }  # fmt: skip
    return TrialRecord(**facts | more)


def test_missing_answers_count_as_a_coins():
    assert verdict.score(judged("lists", 10, 10, 30, answered=10)) == pytest.approx(2 / 3)
    assert verdict.score(judged("lists", 10, 0, 30, answered=0)) == 0.5
    # A judge that says no to everything, and yet ranks what it is asked about.
    timid = judged("probabilities", 10, 15, 30, yes=0, ranked=27.0)
    assert verdict.score(timid) == 0.9


def test_settings_are_those_that_do_no_harm_and_save_most():
    found = record(
        judged("lists", 10, 15, 30),
        judged("booleans", 10, 55, 60),
        judged("booleans", 24, 43, 48),
        labels=[labeled(1, 6, 6), labeled(4, 11), labeled(10, 3, 10)],
        simulation=[
            SimulationWay(mode="prompt_logprobs", windows=8, answered=0, correlation=None),
            SimulationWay(mode="top_logprobs", windows=8, answered=8, correlation=0.3),
            SimulationWay(mode="json", windows=8, answered=8, correlation=-0.1),
        ],
    )
    assert verdict.settings(found) == {
        "features_per_request": 4, "judge_form": "booleans", "judge_items": 24,
        "response_format": "json_schema", "simulation_mode": "top_logprobs",
    }  # fmt: skip
    # Asked again, all came out right, which is no gain but where nothing else does.
    mended = record(labels=[labeled(1, 6, 6), labeled(10, 0, 10, mended=10)])
    assert verdict.settings(mended)["features_per_request"] == 1
    mended = record(labels=[labeled(1, 0, 6, mended=6), labeled(10, 0, 10, mended=10)])
    assert verdict.settings(mended)["features_per_request"] == 10
    assert not verdict.failings(mended, RunConfig())
    harmed = record(judged("booleans", 10, 55, 60), judged("booleans", 24, 36, 48))
    assert verdict.settings(harmed)["judge_items"] == 10
    given = record(judged("lists", 10, 15, 30), given={"judge_items": 7})
    assert verdict.settings(given)["judge_items"] == 7


def test_a_run_is_held_against_the_way_in_which_it_asks():
    found = record(
        judged("lists", 10, 28, 30),
        judged("booleans", 10, 58, 60),
        judged("booleans", 24, 25, 48),
        labels=[labeled(1, 6, 6), labeled(10, 1, 10)],
        not_given=["probabilities"],
    )
    alone = {"features_per_request": 9}

    def failings(**settings):
        return verdict.failings(found, RunConfig(**alone | settings))

    assert not failings()  # lists were not tried with more than ten at once
    assert not failings(judge_form="booleans", judge_items=12)
    (failing,) = failings(judge_form="booleans")
    assert (
        "not distinguishable from chance in 48 answers (booleans, 24 excerpts per request"
        in failing
    )
    assert failings(judge_form="probabilities")  # for which booleans are asked instead
    (failing,) = failings(features_per_request=10)
    assert "named 1 of 10" in failing
    config = RunConfig(features_per_request=10)
    assert not verdict.failings(found, config, labels=False)
    assert "--features-per-request 1" in verdict.advice(found, config)
