"""Functions that label and judge."""

import asyncio
import functools
import threading
from collections import Counter

import pytest

import autointerp as ai
from autointerp.llm.local.function_client import named_function
from tests.support import scripted

ASKED: Counter[str] = Counter()
THREADS: set[str] = set()


def plain(messages):
    ASKED["plain"] += 1
    THREADS.add(threading.current_thread().name)
    return scripted.answer({"messages": messages})


async def asynchronous(messages):
    ASKED["asynchronous"] += 1
    await asyncio.sleep(0)
    return scripted.answer({"messages": messages})


def fails(messages):
    raise ValueError("out of ideas")


@pytest.fixture
def given(planted, tmp_path):
    ASKED.clear()
    return {"sae": planted.coder, "cache": planted.cache, "out": tmp_path / "out"}


@pytest.mark.parametrize("function", [plain, asynchronous])
def test_a_function_labels_and_judges(function, given, planted):
    run = ai.run(**given, labeler=function, features_per_request=4)
    labels = run.labels().set_index("feature")
    labeled = labels[labels["status"] == "labeled"]
    assert len(labeled) == 12
    assert set(labeled.loc[1, "label"].split()) == set(planted.words[1])
    assert labeled["detection_balanced_accuracy"].min() >= 0.95
    assert labeled["simulation_correlation"].min() >= 0.85
    assert labels["labeler"].str.startswith(f"{function.__name__}@").all()
    assert run.cost.cost_usd == 0
    asked = ASKED.total()
    ai.run(**given, labeler=function, features_per_request=4)
    assert ASKED.total() == asked


def test_one_function_labels_and_another_judges(given):
    run = ai.run(**given, labeler=plain, judge=asynchronous)
    assert 0 < ASKED["plain"] < ASKED["asynchronous"]
    judges = run.scores()["judge"].astype(str)
    assert judges.str.startswith("asynchronous@").any()
    asked = ASKED.total()
    ai.run(**given, labeler=plain, judge=asynchronous)
    assert ASKED.total() == asked


def test_a_function_judges_rules(given):
    run = ai.run(**given, judge=plain)
    assert set(run.labels()["labeler"]) == {"lexical"}
    assert ASKED["plain"] > 0


def test_a_function_that_fails_is_said_and_what_came_is_kept(given):
    ai.collect(**given)
    with pytest.raises(ai.EndpointError, match=r"fails@.* failed: ValueError: out of ideas"):
        ai.label(**given, labeler=fails)
    with pytest.raises(ai.EndpointError, match="returned a int"):
        ai.label(**given, labeler=lambda messages: len(messages))
    run = ai.label(**given, labeler=plain)
    assert (run.labels()["status"] == "labeled").sum() == 12


def test_a_function_is_known_by_its_code_and_what_it_refers_to():
    def made(model):
        return lambda messages: model

    class Callable:
        def __call__(self, messages):
            return ""

    def name(function):
        return named_function(function).name

    assert name(made("a")) == name(made("a"))
    kept = {name(f) for f in (made("a"), made("b"), plain, asynchronous, Callable(), str.join)}
    kept |= {name(functools.partial(plain, one)) for one in (1, 2)}
    assert len(kept) == 8
    with pytest.raises(ai.InputError, match="a int is not a labeler or judge"):
        named_function(3)


def test_functions_work_in_a_running_loop(given):
    async def use():
        return await ai.arun(**given, labeler=asynchronous), ai.run(**given, labeler=plain)

    first, second = asyncio.run(use())
    assert first.path == second.path
