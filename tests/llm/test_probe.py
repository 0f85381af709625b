import asyncio
import json

import pytest

from autointerp.errors import AutointerpError
from autointerp.llm.probe import probe
from autointerp.llm.wire.client import ChatClient
from autointerp.llm.wire.dialect import Dialect, dialect_for
from autointerp.llm.wire.request import ChatRequest, ReplySchema
from tests.support.fake_server import FakeServer, Fault, status

COPIED = json.dumps(
    {"colours": [{"n": n, "name": c} for n, c in enumerate(("red", "green", "blue"), 1)]}
)


def find_out(server, dialect):
    async def main():
        client = ChatClient(server.url, "k", timeout_s=5, max_connections=1)
        try:
            return await probe(client, dialect, "test-model")
        finally:
            await client.close()

    return asyncio.run(main())


def test_what_an_endpoint_takes_is_found_out():
    def picky(request, _seen, _index):
        if "chat_template_kwargs" in request:
            return status(422, "Unexpected fields in the request: {'chat_template_kwargs'}")
        if request.get("response_format", {}).get("type") == "json_schema":
            return status(500, "Input should be 'text' or 'json_object'")
        if "max_tokens" in request:
            return status(400, "Use 'max_completion_tokens' instead of 'max_tokens', unsupported")
        if "temperature" in request:
            return status(400, "Unsupported value: 'temperature' does not support 0.0")
        return None

    with FakeServer(lambda _: COPIED, faults=picky) as server:
        found = find_out(server, dialect_for(server.url))
    assert found.items_read == 3
    assert found.dialect.dropped == (
        "chat_template_kwargs",
        "json_schema",
        "max_tokens",
        "temperature",
        "prompt_logprobs",
        "top_logprobs",
    )
    assert (found.thinks, found.reports_usage, found.logprobs) == (False, True, ())


def test_thoughts_and_logprobs_are_seen():
    message = {"content": COPIED, "reasoning_content": "hm"}
    logprobs = {"content": [{"token": "{", "logprob": -0.1, "top_logprobs": [{"token": "{"}]}]}
    body = {"model": "m-2026", "choices": [{"message": message, "logprobs": logprobs}]}
    with FakeServer(str, faults=lambda *_: Fault("raw", body=body)) as server:
        found = find_out(server, Dialect())
    assert (found.thinks, found.reports_usage, found.logprobs) == (True, False, ("top_logprobs",))
    assert found.model == "m-2026"


def test_a_model_that_writes_no_json_is_seen():
    with FakeServer(lambda _: "I like colours") as server:
        assert find_out(server, Dialect()).items_read == 0


def test_an_endpoint_that_refuses_is_quoted():
    with (
        FakeServer(str, faults=lambda *_: status(400, "unsupported: weather")) as server,
        pytest.raises(AutointerpError, match="unsupported: weather"),
    ):
        find_out(server, Dialect())


@pytest.mark.parametrize(
    ("url", "structured", "limit_name", "optional"),
    [
        ("https://api.openai.com/v1", "json_schema", "max_completion_tokens", {}),
        ("https://api.deepseek.com", "json_object", "max_tokens", {"thinking"}),
        ("https://openrouter.ai/api/v1", "json_schema", "max_tokens", {"reasoning"}),
        ("http://localhost:8000/v1", "json_schema", "max_tokens", {"chat_template_kwargs"}),
        ("http://notopenrouter.ai/v1", "json_schema", "max_tokens", {"chat_template_kwargs"}),
    ],
)
def test_hosts_are_known(url, structured, limit_name, optional):
    dialect = dialect_for(url)
    assert (dialect.structured, dialect.limit_name) == (structured, limit_name)
    assert set(dialect.optional) == set(optional)
    assert not dialect_for(url, think=True).optional


def test_what_was_lost_stays_lost_and_every_loss_ends():
    request = ChatRequest("m", (), 5, 0.0, ReplySchema("x", {}))
    dialect = dialect_for("http://localhost/v1", extra={"seed": 3})
    complaint = "unsupported: temperature response_format max_tokens chat_template_kwargs seed"
    seen = [dialect]
    while (fallback := seen[-1].without(complaint)) is not None:
        seen.append(fallback)
    assert len(seen) == 6
    assert dialect.after(seen[-1].dropped) == seen[-1]
    # The bound on a reply's length is kept under its other name, and what the user set stays.
    assert json.loads(seen[-1].body(request)) == {
        "model": "m",
        "messages": [],
        "max_completion_tokens": 5,
        "seed": 3,
        "stream": False,
    }
