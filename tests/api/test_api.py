"""The Python API over files: the same runs as the command line's, and errors that can be told."""

import asyncio
import inspect
import time

import pytest

import autointerp as ai
from autointerp import held
from autointerp.given import naming_arguments
from tests.support import scripted
from tests.support.fake_server import FakeServer, status

PRICED = {"input_price": 1.0, "output_price": 1.0}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-secret")


@pytest.fixture
def given(planted, tmp_path):
    """The planted SAE and cache, as arguments."""
    return {"sae": planted.coder, "cache": planted.cache, "out": tmp_path / "out"}


def asks(server: FakeServer) -> dict:
    return {"model": "test-model", "base_url": server.url, "features_per_request": 4}


def test_a_run_gives_its_tables(given, planted):
    run = ai.run(**given, features=[0, 1, 2, 12])
    assert run.stages == ["collect", "label", "score"]
    labels = run.labels().set_index("feature")
    assert labels.index.tolist() == [0, 1, 2, 12]
    assert labels["status"].tolist() == ["labeled"] * 3 + ["dead"]
    assert set(run.scores()["feature"]) == {0, 1, 2}
    assert len(run.windows(1)["activations"].iloc[0]) == 32
    feature = run.feature(1)
    assert feature.label == labels.loc[1, "label"]
    assert planted.words[1][0] in str(feature)
    assert f"Feature 1: {feature.label}" == repr(feature)
    assert {count.name: count.n for count in run.summary.counts} == {"labeled": 3, "dead": 1}
    assert run.cost.prompt_tokens == 0
    assert run.settings["features"] == "0-2,12"
    for shown in (run, feature):
        assert shown._repr_html_().startswith("<pre")
    assert "3 labeled" in str(run)
    again = ai.open_run(run.path)
    assert repr(again) == repr(run)


@pytest.mark.parametrize("first", ["command line", "python"])
def test_one_goes_on_where_the_other_stopped(first, given, planted, cli, capsys):
    """Nothing is done twice."""
    flags = planted.flags(given["out"])
    if first == "python":
        ai.collect(**given)
        ai.label(**given)
        before = dict(ai.open_run(given["out"])._run.stages().done())
        code, _, err = cli("run", *flags)
        assert code == 0, err
    else:
        assert cli("collect", *flags)[0] == cli("label", *flags)[0] == 0
        before = dict(ai.open_run(given["out"])._run.stages().done())
        ai.run(**given)
        err = capsys.readouterr().err
    assert "collect: already done" in err
    assert "label: already done" in err
    after = dict(ai.open_run(given["out"])._run.stages().done())
    assert {name: after[name] for name in before} == before
    assert "score" in after


def test_a_model_is_asked_from_inside_a_running_loop(given):
    async def use() -> ai.Run:
        return ai.run(**given, **asks(server))

    with FakeServer(scripted.answer) as server:
        run = asyncio.run(use())
        assert server.requests
        asked = len(server.requests)
        assert (run.labels()["status"] == "labeled").sum() == 12
        ai.run(**given, **asks(server))
        assert len(server.requests) == asked


def test_arun_does_not_hold_up_the_loop(given):
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - begun)

    async def use() -> ai.Run:
        watching = asyncio.create_task(watch())
        run = await ai.arun(**given, **asks(server))
        watching.cancel()
        return run

    with FakeServer(scripted.answer) as server:
        begun = time.monotonic()
        run = asyncio.run(use())
    assert run.stages == ["collect", "label", "score"]
    assert longest < (time.monotonic() - begun) / 2


def test_cancelling_keeps_what_came(given):
    """And what goes on asks for the rest alone."""

    async def use() -> None:
        running = asyncio.create_task(ai.arun(**given, **asks(server), concurrency=1))
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with FakeServer(scripted.answer) as server:
        ai.collect(**given)
        asyncio.run(use())
        stopped = ai.open_run(given["out"])
        assert "score" not in stopped.stages
        first = len(server.requests)
        run = ai.run(**given, **asks(server))
        assert (run.labels()["status"] == "labeled").sum() == 12
        bodies = [str(request) for request in server.requests]
        assert len(set(bodies)) == len(bodies)
        assert len(bodies) > first


def test_a_wrong_name_is_named_with_the_nearest(given):
    with pytest.raises(
        ai.ConfigurationError, match="'modle' is not an argument or a setting: did you mean model"
    ):
        ai.run(**given, modle="x")
    with pytest.raises(ai.ConfigurationError, match=r"tokens \(argument tokens\)"):
        ai.run(**given, tokens=0)
    with pytest.raises(ai.ConfigurationError, match="did you mean sae_format"):
        ai.run(**given, sae_formt="x")
    assert inspect.signature(ai.label) == inspect.signature(ai.run)
    assert inspect.iscoroutinefunction(ai.arun)


def test_commands_in_errors_stay_as_they_are():
    said = (
        "doctor.json is damaged: `autointerp doctor --model` makes it again, or pass --model NAME"
    )
    with pytest.raises(ai.AutointerpError) as caught, naming_arguments():
        raise ai.InputError(said)
    assert str(caught.value) == said.replace("--model NAME", "model=NAME")


def test_errors_name_arguments_and_not_flags(given, tmp_path):
    with pytest.raises(ai.ConfigurationError, match="labeler llm needs a model: model=NAME"):
        ai.run(**given, labeler="llm")
    with pytest.raises(ai.ConfigurationError, match=r"holds activations: .* with `sae`$"):
        ai.run(cache=given["cache"], out=tmp_path / "o")
    ai.collect(**given)
    with pytest.raises(ai.ConfigurationError, match=r"pass `model` .and drop `labeler` lexical"):
        ai.run(**given, labeler="lexical", dry_run=True)


def test_callers_can_tell_what_went_wrong(given, tmp_path):
    with pytest.raises(ai.InputError, match="no such file"):
        ai.run(sae=tmp_path / "nowhere", out=tmp_path / "x")
    with pytest.raises(ai.InputError, match="no run at"):
        ai.open_run(tmp_path / "nowhere")
    with pytest.raises(ai.NotDoneError, match="no evidence"):
        ai.label(**given)
    collected = ai.collect(**given)
    with pytest.raises(ai.NotDoneError):
        collected.labels()
    with pytest.raises(ai.NotDoneError):
        _ = collected.cost
    with FakeServer(scripted.answer) as server:
        pass
    with pytest.raises(ai.EndpointUnreachableError):
        ai.label(**given, **asks(server))
    with FakeServer(scripted.answer, models=("other",)) as server:
        server.faults = lambda *_: status(404, "no such model")
        with pytest.raises(ai.EndpointRejectedError, match="does not serve"):
            ai.label(**given, **asks(server))


def test_a_budget_that_is_used_up_is_said(given):
    with FakeServer(scripted.answer) as server:
        with pytest.raises(ai.OutOfBudgetError, match=r"the budget of \$0.02 is used up"):
            ai.run(**given, **asks(server), **PRICED, budget=0.02)
        run = ai.run(**given, **asks(server), **PRICED, budget=10)
    assert run.cost.cost_usd


def test_damage_is_said(given):
    run = ai.run(**given)
    (run.path / "labels.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ai.DamagedFileError):
        run.labels()


def test_nothing_is_held_afterwards(given):
    ai.run(**given)
    assert not held._THINGS


def test_settings_of_a_scorer_are_arguments_too(given):
    ai.collect(**given)
    ai.label(**given)
    ai.score(**given, detection_windows=10)
    assert ai.open_run(given["out"]).settings["detection_windows"] == 10
    with pytest.raises(ai.ConfigurationError, match="detection_windows"):
        ai.score(**given, detection_window=10)


def test_scoring_what_is_not_labeled_is_said_to_be_too_early(given):
    ai.collect(**given)
    with pytest.raises(ai.NotDoneError, match="autointerp label"):
        ai.score(**given)
