"""Simulation's ways of asking, on the command line, against servers that have some of them."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import autointerp
from autointerp.prompting.prompts import BUNDLED, load_prompt
from tests.support import scripted
from tests.support.fake_server import FakeServer, status
from tests.support.models import Ranking
from tests.support.simulators import openai_reply, vllm_prompt

PROMPT, REPLY, JSON = "prompt_logprobs", "top_logprobs", "json"
FIRES, SILENT = [0, 0, 0, 0, 0, 0, 0, 0.1, 0.2, 0.7], [0.9, 0.1, 0, 0, 0, 0, 0, 0, 0, 0]
HIGH, LOW = (10 / 9 * np.dot(p, np.arange(10)) for p in (FIRES, SILENT))


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")


def chances(label, token):
    return FIRES if token.strip() in label.split() else SILENT


def way(request):
    """How a request asks for a simulation; None for all else."""
    if "prompt_logprobs" in request:
        return PROMPT
    if "top_logprobs" in request:
        return REPLY
    system = request["messages"][0]["content"]
    return JSON if '"activations"' in system else None


def serve(*has, refuses=(), **options):
    """A server that has some of the ways, refuses others, and ignores what is left."""

    def respond(request):
        if way(request) == PROMPT and PROMPT in has:
            return vllm_prompt(request, chances)
        if way(request) == REPLY and REPLY in has:
            return openai_reply(request, chances)
        if way(request) in (PROMPT, REPLY):
            return "I cannot say"
        return scripted.answer(request)

    def faults(request, _seen, _index):
        if way(request) in refuses:
            return status(400, f"Unknown parameter: '{way(request)}'.")
        return None

    return FakeServer(respond, faults=faults, **options)


def flags_of(server, planted, out, *more):
    flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "6"]
    flags += ["--features", "0-5", "--simulation-windows", "6", "--detection-windows", "2"]
    return [*flags, *planted.flags(out), *more]


def ways(server):
    return Counter(map(way, server.requests))


@pytest.mark.parametrize(
    ("has", "refuses", "mode", "wasted"),
    [
        ((PROMPT, REPLY), (), PROMPT, {}),
        ((REPLY,), (PROMPT,), REPLY, {PROMPT: 1}),
        ((REPLY,), (), REPLY, {PROMPT: 1}),
        ((), (PROMPT, REPLY), JSON, {PROMPT: 1, REPLY: 1}),
    ],
)
def test_the_first_way_that_the_endpoint_has_is_used(
    cli, planted, tmp_path, has, refuses, mode, wasted
):
    with serve(*has, refuses=refuses) as server:
        code, _, said = cli("run", *flags_of(server, planted, tmp_path / "out"))
        assert code == 0, said
        sent = ways(server)
    del sent[None]
    # One request finds out; then each label and each null is asked about once.
    assert sent == wasted | {mode: 12}
    labels = autointerp.load_labels(tmp_path / "out")
    assert set(labels["simulation_mode"]) == {mode}
    assert labels["simulation_correlation"].min() > 0.8
    assert (labels["simulation_parse_rate"] == 1).all()
    scores = autointerp.load_scores(tmp_path / "out")
    simulated = scores[scores["scorer"] == "simulation"]
    assert set(simulated["metric"]) == {
        "correlation", "correlation_among_active", "spearman", "explained_variance",
        "population_correlation", "token_recall",
    }  # fmt: skip
    assert simulated.groupby("metric", observed=True).size().eq(6).all()
    template = "simulation" if mode == JSON else f"simulation_{mode}"
    assert set(simulated["prompt_hash"]) == {load_prompt(template, BUNDLED).hash}
    assert set(scores[scores["scorer"] == "detection"]["mode"].dropna()) == set()
    if mode != JSON:
        predictions = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
        found = np.concatenate(predictions["token_prediction"].dropna().tolist())
        np.testing.assert_allclose(np.unique(found), [LOW, HIGH], atol=1e-6)


def test_a_refusal_in_the_middle_mixes_no_ways_within_a_score_and_nothing_is_paid_twice(
    cli, planted, tmp_path
):
    """The endpoint loses prompt_logprobs half way, then is away, then comes back."""
    out = tmp_path / "out"
    with serve(PROMPT, REPLY) as server:
        honest = server.faults

        def fails(request, seen, index):
            if way(request) == PROMPT and ways(server)[PROMPT] >= 33:
                return status(400, "Unknown parameter: 'prompt_logprobs'.")
            if ways(server)[REPLY] >= 2:
                return status(401, "gone")
            return honest(request, seen, index)

        server.faults = fails
        # Requests of two windows each: a simulation takes three of them, twelve take 36.
        flags = flags_of(server, planted, out, "--judge-items", "2", "--concurrency", "1")
        flags += ["--max-concurrency", "1"]
        assert cli("run", *flags)[0] == 2
        server.faults = lambda *_: None
        asked = ways(server)[PROMPT]
        code, _, said = cli("run", *flags)
        assert code == 0, said
        # What is lost stays lost; what was paid for is not paid for again.
        assert ways(server)[PROMPT] == asked
        assert max(server.served.values()) == 1
    scores = autointerp.load_scores(out)
    headline = scores[(scores["scorer"] == "simulation") & (scores["metric"] == "correlation")]
    assert len(headline) == 6
    predictions = pd.read_parquet(out / "predictions.parquet")
    simulated = predictions[predictions["scorer"] == "simulation"]
    modes = simulated.groupby(["feature", "label_of"])["mode"].agg(set)
    assert len(modes) == 12
    assert (modes.map(len) == 1).all()
    assert set.union(*modes) == {PROMPT, REPLY}
    for row in headline.itertuples():
        # A null that was asked for in another way than the score says nothing of it.
        assert np.isnan(row.null_value) == (len(set.union(*modes[row.feature])) == 2)


def test_a_way_that_is_insisted_on_stops_the_run_where_it_is_not_to_be_had(cli, planted, tmp_path):
    with serve(refuses=(REPLY,)) as server:
        flags = flags_of(server, planted, tmp_path / "out", "--simulation-mode", REPLY)
        code, _, said = cli("run", *flags)
        assert code == 2
        assert "gives no top_logprobs: choose another --simulation-mode" in said
        assert ways(server)[REPLY] == 1
        assert ways(server)[PROMPT] == ways(server)[JSON] == 0
        code, _, said = cli("run", *flags, "--simulation-mode", JSON)
        assert code == 0, said


def test_tokens_without_a_digit_are_missing_and_counted(cli, planted, tmp_path):
    def respond(request):
        if way(request) != PROMPT:
            return scripted.answer(request)
        reply = vllm_prompt(request, chances)
        for place, row in enumerate(reply.whole["prompt_logprobs"]):
            # Every third position holds what it held, and no digit.
            if row and place % 3 == 0:
                reply.whole["prompt_logprobs"][place] = dict(list(row.items())[:1])
        return reply

    with FakeServer(respond) as server:
        code, _, said = cli("run", *flags_of(server, planted, tmp_path / "out"))
    assert code == 0, said
    labels = autointerp.load_labels(tmp_path / "out")
    assert labels["simulation_parse_rate"].between(0.5, 0.8).all()
    assert all("simulation_parse_rate" in flags for flags in labels["flags"])
    assert labels["error"].str.contains("tokens without a readable judgment").all()
    predictions = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    of_tokens = [v for row in predictions["token_prediction"].dropna() for v in row]
    assert any(v is None or np.isnan(v) for v in of_tokens)
    assert 0 not in of_tokens


@pytest.mark.parametrize(
    ("has", "refuses", "said"),
    [
        ((PROMPT, REPLY), (), "by prompt_logprobs"),
        ((REPLY,), (PROMPT,), "by top_logprobs"),
    ],
)
def test_the_doctor_says_how_and_the_run_begins_with_it(cli, planted, tmp_path, has, refuses, said):
    copied = {"colours": [{"n": n, "name": c} for n, c in enumerate(("red", "green", "blue"), 1)]}
    with serve(*has, refuses=refuses) as server:
        simulate, judge = server.respond, Ranking()

        def respond(request):
            if "numbered colours" in request["messages"][0]["content"]:
                return json.dumps(copied)
            if "how warm" in request["messages"][0]["content"]:
                request = request | {"messages": [{"role": "system", "content": ""}, {
                    "role": "user", "content": "Description: fire\n"
                    + (request["messages"][0]["content"] if way(request) == PROMPT else "1\tice"),
                }]}  # fmt: skip
            if "numbered excerpts of text" in request["messages"][0]["content"]:
                return judge(request)
            return simulate(request)

        server.respond = respond
        flags = flags_of(server, planted, tmp_path / "out")
        _, printed, _ = cli("doctor", *flags)
        assert f"simulation {said}" in " ".join(printed.split()).replace(":", "")
        before = ways(server)
        assert cli("run", *flags, "--yes")[0] == 0
        sent = ways(server) - before
    # The run asks in no way that the doctor found to be of no use.
    del sent[None]
    assert list(sent) == [said.removeprefix("by ")]
