"""The record of a run comes from whoever made it: what it names is shown, never used."""

import importlib
import importlib.util
import json
import typing
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from autointerp.config.model_settings import ModelSettings
from autointerp.config.settings import RunConfig, all_settings
from autointerp.errors import AutointerpError
from autointerp.runs.directory import Run
from autointerp.runs.record import TAKEN_OVER, CollectRecord, RecordedSettings
from autointerp.scoring.scorers import embedding
from tests.support import scripted
from tests.support.fake_server import FakeServer

needs_server = pytest.mark.skipif(
    importlib.util.find_spec("duckdb") is None, reason="serving a run needs the extra serve"
)


def a_record(path, text):
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text(text)
    return Run(path)


def test_only_numbers_and_choices_are_taken_over():
    for name in TAKEN_OVER:
        kind = RunConfig.model_fields[name].annotation
        assert kind is int or get_origin(kind) is Literal, name
        assert all(isinstance(choice, str) for choice in get_args(kind))
    outside = {"out", "coder", "subject", "text", "cache", "tokens", "prompts", "processes"}
    outside |= {"embedding_model", "surprisal_model", *ModelSettings.model_fields}
    assert not outside & set(TAKEN_OVER)


def test_a_record_is_not_a_configuration():
    """So that what opens, loads, sends or spends cannot be given one."""
    assert not issubclass(RecordedSettings, RunConfig)
    taken = typing.get_type_hints(RecordedSettings.with_own)
    assert taken["own"] is RunConfig


def test_a_person_s_settings_come_before_the_record_s(tmp_path):
    hostile = {
        name: f"hostile-{name}"
        for name, setting in all_settings().items()
        if setting.field.annotation is str or str in get_args(setting.field.annotation)
    }
    recorded = hostile | {"label_top": 3, "seed": 7, "budget": 1e9, "batch": True, "timeout": 1e9}
    run = a_record(tmp_path, json.dumps({"config": recorded}))
    own = RunConfig(model="mine", base_url="http://localhost:1/v1", seed=9)
    merged = run.settings().with_own(own)
    assert merged.label_top == 3
    assert merged.seed == 9
    assert merged.model_copy(update={"label_top": own.label_top}) == own
    assert "hostile" not in repr(merged)
    assert run.settings().shown() == recorded


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{", "null", '{"a": NaN}', '{"a": 1e999}', "9" * 5000, "[" * 5000, "\ud800"),
        '{"a": ' + "[" * 40 + "]" * 40 + "}",
        '{"config": []}',
        '{"stages": {"label": 1}}',
        '{"stages": {"label": {"seconds": "1"}}}',
        '{"stages": {"collect": {"corpus": {"tokens": 1}}}}',
        '{"stages": {"label": {"outcomes": {"labeled": -1}}}}',
        '{"prompts": {"../../x": "0123456789abcdef"}}',
        '{"prompts": {"label": "../../../../../x"}}',
        '{"version": 3}',
        '{"version": "2"}',
    ],
)
def test_a_record_of_another_shape_is_one_line(tmp_path, text):
    tmp_path.joinpath("run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(AutointerpError, match=r"run\.json") as said:
        Run(tmp_path).record()
    assert "\n" not in str(said.value)


BEFORE = Path(__file__).parents[1] / "data" / "before"


@pytest.mark.parametrize("name", ["rules", "model", "captured"])
def test_a_record_of_the_first_version_is_read(name):
    path = BEFORE / name / "run.json"
    loaded = json.loads(path.read_text())
    record = Run(path.parent).record()
    assert record.version == 1
    assert [stage for stage, _ in record.stages.done()] == list(loaded["stages"])
    for stage, details in record.stages.done():
        assert details.inputs == loaded["stages"][stage]["inputs"]
    assert record.model_dump(by_alias=True, exclude_unset=True) == loaded


def test_what_is_not_known_is_kept_when_a_record_is_written(tmp_path):
    stages = {"label": {"inputs": "a", "later": [1]}, "steer": {"b": 1}}
    run = a_record(tmp_path, json.dumps({"stages": stages, "more": {"c": None}}))
    run.update(config={"seed": 1})
    run.finish_stage("collect", "i", 1.234, CollectRecord(windows=3))
    written = json.loads(run.manifest.read_text())
    collected = written["stages"].pop("collect")
    assert written == {"version": 2, "config": {"seed": 1}, "stages": stages, "more": {"c": None}}
    assert (collected["inputs"], collected["windows"], collected["seconds"]) == ("i", 3, 1.23)
    run.forget_stages("label", "collect")
    assert json.loads(run.manifest.read_text())["stages"] == {"steer": {"b": 1}}


@needs_server
def test_a_hostile_run_sends_nothing_and_loads_nothing(copied, monkeypatch, tmp_path):
    """One POST sent any variable of the environment to the address that the run's file names."""
    from tests.serve.conftest import serving

    monkeypatch.setenv("MY_PRIVATE_VARIABLE", "private-value")
    loaded = []
    monkeypatch.setattr(
        "autointerp.scoring.scorers.embedding.Encoder.__init__",
        lambda _self, name, _device: loaded.append(name),
    )
    contexts = importlib.import_module("autointerp.serve.served_contexts")
    monkeypatch.setattr(contexts, "find_cache", lambda path: pytest.fail(f"opened {path}"))
    with FakeServer(scripted.answer) as evil:
        settings = {
            "model": "test-model",
            "labeler": "llm",
            "base_url": evil.url,
            "api_key_env": "MY_PRIVATE_VARIABLE",
            "embedding_model": str(tmp_path),
            "cache": str(tmp_path),
            "prompts": str(tmp_path),
            "prices": str(tmp_path / "prices.toml"),
            "tokenizer": str(tmp_path),
        }
        copied.update(config=copied.settings().shown() | settings)
        with serving(copied) as client:
            info = client.get("/api/run").json()
            assert info["asks"] is None
            assert info["asked"] == f"test-model at {evil.url}"
            reply = client.post("/api/features/4/label", json={})
            assert (reply.status_code, "--model NAME" in reply.text) == (409, True)
            reply = client.get("/api/contexts/0")
            assert reply.status_code == 404
            assert str(tmp_path) in reply.json()["detail"]
            client.get("/api/search", params={"q": "x", "by": "meaning"})
        assert (evil.requests, evil.connections) == ([], 0)
    assert loaded == [embedding.EmbeddingSettings().model]


@needs_server
def test_own_settings_that_are_wrong_are_said_before_anything_is_served(cli, finished, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, _, said = cli("serve", str(finished.path), "--model", "m")
    assert (code, "no API key for https://api.openai.com/v1" in said) == (2, True)
    code, _, said = cli("serve", str(finished.path), "--prompts", "nowhere")
    assert (code, "no such folder" in said) == (2, True)
