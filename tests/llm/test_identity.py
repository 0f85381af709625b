"""Requests are sent in the order in which they are declared, and known to the journal in any."""

import json
import random
import shutil
from pathlib import Path

import pytest

from autointerp.labeling.label_reply import reply_schema
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.llm.pool import Step
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.request import ChatRequest, list_of, request_key
from autointerp.scoring.scorers import (
    detection,
    discrimination,
    fade,
    fuzzing,
    intruder,
    simulation,
)
from autointerp.scoring.scorers.concept_texts import schema as texts_schema
from tests.llm.test_batch import fill
from tests.support.asked_before import DIALECT, EARLIER, ENDPOINT, FAILED, NOW
from tests.support.batch_server import BatchServer
from tests.support.echo import run, say_back
from tests.support.fake_server import FakeServer, status

BEFORE = Path("tests/data/journals/before.sqlite")
LABELS, WITH_MEANINGS = reply_schema([1, 2]), reply_schema([1, 2], 5, 10)
FIELDS = {  # of one entry, in the order in which they are to be written
    "labels": (LABELS, ["n", "reason", "label", "confidence"]),
    "meanings": (WITH_MEANINGS, ["n", "meanings", "reason", "label", "confidence"]),
    "detection": (detection.SCORER.task.schema((), False), ["match", "no_match"]),
    "fuzzing": (fuzzing.SCORER.task.schema((), False), ["right", "wrong"]),
    "discrimination": (discrimination.SCORER.task.schema((), False), ["A", "B", "C", "D"]),
    "intruder": (intruder.SCORER.task.schema((), False), ["n", "intruder"]),
    "simulation": (simulation.SCORER.task.schema((), False), ["w", "activations"]),
    "fade": (fade.SCORER.task.schema((), False), ["clear", "partly", "none"]),
    "texts": (texts_schema(5), ["text"]),
}


def fields_of(schema):
    """The names of an entry's fields, or of the whole where it is no list of entries."""
    (first, *_) = schema["properties"].values()
    entry = first["items"]
    return list((entry if "properties" in entry else schema)["properties"])


def sent_schema(body):
    return body["response_format"]["json_schema"]["schema"]


@pytest.mark.parametrize("name", FIELDS)
def test_fields_are_sent_in_the_order_in_which_they_should_be_written(name):
    schema, expected = FIELDS[name]
    body = json.loads(Dialect().body(ChatRequest("m", (), 10, schema=schema)))
    assert fields_of(sent_schema(body)) == expected


def test_an_excerpts_group_is_sent_before_its_label():
    body = json.loads(Dialect().body(ChatRequest("m", (), 10, schema=WITH_MEANINGS)))
    entry = sent_schema(body)["properties"]["labels"]["items"]
    assert list(entry["properties"]["meanings"]["items"]["properties"]) == ["windows", "label"]


class Ordered:
    """Asks with a schema whose fields are not in the order of the alphabet."""

    word = "w"

    def request(self):
        schema = list_of("entries", {"z": {"type": "string"}, "a": {"type": "string"}}, 2)
        return ChatRequest("test-model", ({"role": "user", "content": "w"},), 10, schema=schema)

    def reduce(self, outcome):
        return Step(results=[outcome.text])


def test_the_order_holds_on_the_wire_and_in_batch_files(tmp_path):
    with FakeServer(say_back) as online, BatchServer(say_back) as batches:
        run(online, [Ordered()], tmp_path / "online.sqlite", dialect=Dialect())
        fill(batches, [Ordered()], tmp_path / "batch.sqlite")
        in_batch = json.loads(batches.files["file-0"])["body"]
    for body in (json.loads(online.bodies[0]), in_batch):
        assert fields_of(sent_schema(body)) == ["z", "a"]
        assert body["stream"] is False


def shuffled(value, draw):
    if isinstance(value, dict):
        entries = [(key, shuffled(one, draw)) for key, one in value.items()]
        draw.shuffle(entries)
        return dict(entries)
    return [shuffled(one, draw) for one in value] if isinstance(value, list) else value


def test_a_request_is_the_same_in_any_order():
    content = Dialect().content(ChatRequest("m", ({"role": "user", "content": "x"},), 9, 0, LABELS))
    keys = {request_key("u", shuffled(content, random.Random(seed))) for seed in range(20)}
    assert keys == {request_key("u", content)}
    assert request_key("u", content | {"max_tokens": 8}) not in keys


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.sqlite"
    shutil.copy(BEFORE, path)
    opened = Journal.open(path)
    yield opened
    opened.close()


@pytest.fixture
def before(journal):
    return ReplyCache(journal, ENDPOINT, DIALECT)


@pytest.mark.parametrize("request_", [*NOW, *EARLIER], ids=lambda one: one.messages[-1]["content"])
def test_replies_of_earlier_versions_are_found(before, request_):
    found = before.find(request_)
    asked = request_.messages[-1]["content"].replace("\ud83d", "?")
    assert found is not None
    assert found.reply.text == f"re: {asked}"


def test_what_changed_of_a_request_is_asked_for_anew(before):
    for more in ({"max_tokens": 101}, {"temperature": 0.5}, {"attempt": 2}):
        values = {name: getattr(NOW[0], name) for name in NOW[0].__slots__} | more
        assert before.find(ChatRequest(**values)) is None


def test_a_failure_that_was_taken_for_an_answer_is_asked_for_again(journal, before):
    kept = journal.get(request_key(ENDPOINT, DIALECT.content(FAILED)))
    assert b"Upstream overloaded" in kept[0]
    assert before.find(FAILED) is None


@pytest.mark.parametrize("fact", ["not json", "5", '[[["a"]]]', '{"a": 1}'])
def test_a_fact_that_is_none_is_forgotten(journal, fact):
    journal.set_fact(f"dialect of {ENDPOINT} for m", fact)
    assert ReplyCache(journal, ENDPOINT, DIALECT).dialect("m") == DIALECT


def test_a_schema_without_counts_is_the_same_request(before):
    """What an endpoint that takes no counts was asked is found, and the other way round."""
    request = NOW[0]
    loose = Dialect().after(("counts in a schema",))
    assert json.loads(loose.body(request)) != json.loads(Dialect().body(request))
    assert '"enum"' not in loose.body(request).decode()
    assert loose.content(request) == Dialect().content(request)


@pytest.mark.parametrize(
    "words",
    [
        "Invalid schema: 'minItems' is not permitted",
        "Failed to parse grammar",
        "The specified schema produces a constraint that has too many states for serving.",
        "The provided JSON schema contains features not supported by xgrammar.",
        'Unimplemented keys in schema: ["minItems"]',
        "Schema is too complex",
    ],
)
def test_an_endpoint_that_takes_no_counts_is_asked_without_them(tmp_path, words):
    def picky(request, _seen, _index):
        if "minItems" in json.dumps(request.get("response_format")):
            return status(400, words)
        return None

    with FakeServer(say_back, faults=picky) as server:
        ran = run(server, [Ordered()], tmp_path / "journal.sqlite", dialect=Dialect())
        assert len(ran.results) == 1
        first, second = map(json.loads, server.bodies)
    assert "minItems" in json.dumps(sent_schema(first))
    assert fields_of(sent_schema(second)) == ["z", "a"]
    assert "minItems" not in json.dumps(sent_schema(second))
