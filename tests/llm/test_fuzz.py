"""Whatever a peer sends: no exception but our own, and nothing that is not bounded."""

import asyncio
import json
import math
import sys

import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autointerp.llm.batch_results import (
    NoReply,
    errors_of,
    name_of,
    progress_of,
    read_result,
)
from autointerp.llm.limits.budget import cost_usd
from autointerp.llm.limits.rate_limiter import RateLimiter
from autointerp.llm.wire.call_errors import (
    CALL_ERRORS,
    UnreadableReply,
    classify,
    parse_retry_after,
)
from autointerp.llm.wire.client import ChatClient, _Response
from autointerp.llm.wire.logprobs import PARAMETERS
from autointerp.llm.wire.reply import read_reply, usage_of, was_cut
from tests.llm.test_faults import Wire
from tests.support.echo import PRICE, TRANSPORTS

HTTP = sys.modules[_Response.__module__.partition(".")[0]]
WORDS = st.sampled_from(
    [
        "error", "stop", "length", "content_filter", "rate_limit", "9" * 5000, "429", "502", "٤٢٩",
        "retry in 1.2.3s", f"retry in {'9' * 400}s", "\ud800", "\x1b[31m", "data: {}", "",
    ]
)  # fmt: skip
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 1e308, 0, -1, 429, 2**63, True])
)
VALUES = st.recursive(
    st.none() | NUMBERS | WORDS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [
                "error", "message", "code", "type", "metadata", "raw", "detail", "base_resp",
                "status_code", "text", "content", "function", "arguments", "index", "token",
                "logprob", "top_logprobs", "decoded_token", "cached_tokens", "reasoning_tokens",
                "delta", "data", "id", "completed", "total", "autointerp",
            ]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


def objects(*names, **fixed):
    """Objects of some of these fields, each of any value or of what is fixed for it."""
    return st.fixed_dictionaries(
        {}, optional={name: fixed.get(name, VALUES) | VALUES for name in (*names, *fixed)}
    )


MESSAGES = objects(
    "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call"
)
CHOICES = objects(
    "index", "finish_reason", "error", "prompt_logprobs",
    message=MESSAGES, delta=MESSAGES, logprobs=objects("content"),
)  # fmt: skip
USAGES = objects(
    "prompt_tokens", "completion_tokens", "cost", "prompt_cache_hit_tokens",
    prompt_tokens_details=objects("cached_tokens"),
    completion_tokens_details=objects("reasoning_tokens"),
)  # fmt: skip
COMPLETIONS = objects(
    "model", "error", "message", "code", "base_resp", "prompt_logprobs", "prompt_token_ids",
    choices=st.lists(CHOICES, max_size=2), usage=USAGES,
)  # fmt: skip


def encoded(value):
    return json.dumps(value).encode()


def streamed(chunks):
    return b"".join(b"data: " + encoded(chunk) + b"\n\n" for chunk in chunks)


REPLIES = (
    COMPLETIONS.map(encoded)
    | st.lists(COMPLETIONS, max_size=4).map(streamed)
    | VALUES.map(encoded)
    | st.binary(max_size=200)
    | st.tuples(COMPLETIONS.map(encoded), st.integers(0, 400)).map(lambda cut: cut[0][: cut[1]])
)


def check_reply(raw):
    """Everything that is made of a reply on its way into the journal and out of it."""
    for readable in (True, False):
        cost = cost_usd(PRICE, raw, 1.0, readable=readable)
        assert cost is not None
        assert 0 <= cost < math.inf
    usage = usage_of(raw)
    assert 0 <= usage.cached_tokens <= usage.prompt_tokens < 2**31
    was_cut(raw)
    try:
        reply = read_reply(raw)
    except UnreadableReply as error:
        check_decision(classify(error))
        return
    assert isinstance(reply.text, str)
    assert isinstance(reply.model, str)
    for logprobs in PARAMETERS:
        reply.ignores(logprobs)
        for position in reply.positions(logprobs):
            assert all(-math.inf < p < 1 for _, p in position.alternatives())


def check_decision(decision):
    assert "\n" not in decision.message
    assert len(decision.message) < 1000
    wait = decision.retry_after_s
    assert wait is None or wait >= 0


@given(REPLIES)
@settings(max_examples=150)
def test_any_reply(raw):
    check_reply(raw)


DEPTHS = range(100, 1100, 9)
NESTED = {
    "the whole": "{}",
    "a choice": '{{"choices": [{}]}}',
    "an error": '{{"error": {{"message": {}, "code": {}}}}}',
    "a call": '{{"choices": [{{"message": {{"tool_calls": [{{"function": {{"arguments": {{"a": {}}}'
    "}}}}]}}}}]}}",
    "a chunk": 'data: {{"choices": [{{"delta": {{"tool_calls": [{{"index": {}}}]}}}}]}}\n\n',
    "a prompt": '{{"prompt_logprobs": [{{"1": 1}}], "prompt_token_ids": [{}], '
    '"choices": [{{"message": {{}}}}]}}',
    "usage": '{{"usage": {{"cost": {}}}, "choices": [{{"message": {{"content": {}}}}}]}}',
}


@pytest.mark.parametrize("name", NESTED)
def test_any_depth(name):
    """Python reads what it cannot write again, and the other way round, near its limit."""
    for depth in DEPTHS:
        deep = "[" * depth + "]" * depth
        places = NESTED[name].count("{}")
        raw = NESTED[name].format(*[deep] * places).encode()
        check_reply(raw)
        check_decision(classify(status_error(500, raw, {})))
        check_result(b'{"custom_id": "' + b"0" * 64 + b'", "response": {"status_code": 200, '
                     b'"body": ' + deep.encode() + b"}}")  # fmt: skip


_CLIENT = openai.AsyncOpenAI(api_key="k", base_url="http://x/v1")


def status_error(code, content, headers):
    """The exception that the SDK itself raises for this response."""
    request = HTTP.Request("POST", "http://x/v1")
    response = _Response(code, content=content, headers=headers, request=request)
    return _CLIENT._make_status_error_from_response(response)


HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "x-ratelimit-limit-requests", "x-ratelimit-limit-tokens"]
    ),
    st.text(st.characters(codec="latin-1"), max_size=20)
    | st.floats().map(str)
    | st.integers().map(str)
    | st.sampled_from(["1_000", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 +9999", "1e-300", "٣"]),
)


@given(st.integers(400, 599), REPLIES, HEADERS)
@example(429, encoded({"error": {"message": "retry in 1.2.3s"}}), {})
@settings(max_examples=100)
def test_any_error(code, content, headers):
    latin = {name: value.encode("utf-8") for name, value in headers.items()}
    check_decision(classify(status_error(code, content, latin)))


@given(HEADERS)
def test_any_headers(headers):
    wait = parse_retry_after(headers, 0.0)
    assert wait is None or 0 <= wait < math.inf
    rate_limiter = RateLimiter(None, None)
    rate_limiter.heed_headers(headers)
    for limit in (rate_limiter.requests_per_minute, rate_limiter.tokens_per_minute):
        assert limit is None or 0.9 < limit < math.inf


def check_result(line):
    try:
        key, raw = read_result(line)
    except NoReply as error:
        check_decision(error.decision)
    except UnreadableReply as error:
        check_decision(classify(error))
    else:
        assert len(key) == 64
        check_reply(raw)


RESULTS = objects(
    "error",
    custom_id=st.just("0" * 64),
    response=objects("status_code", status_code=st.sampled_from([200, 400, 500]), body=COMPLETIONS),
)


@given(RESULTS.map(encoded) | REPLIES)
def test_any_line_of_a_batch(line):
    check_result(line)


@given(objects("request_counts", "metadata", "errors", "status", "id"))
def test_any_batch(batch):
    assert len(progress_of(batch)) < 100
    assert len(errors_of(batch)) < 1000
    name_of(batch)


# Over the wire


FRAMES = st.tuples(
    st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.1 500 \xff", b"HTTP/1.1 999 X", b"HTTP/9 1", b"X"]
    ),
    st.lists(
        st.sampled_from(
            [
                b"Content-Length: -5", b"Content-Length: 5", b"Content-Length: 9999999999999999999",
                b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Encoding: br",
                b"Content-Type: application/json; charset=nonsense", b"Content-Type: \xff\xfe",
                b"Retry-After: \xe9", b"Location: http://[", b"Connection: close", b"x",
                b"Set-Cookie: a=\xff; expires=nonsense", b"Content-Encoding: nonsense",
            ]
        ),
        max_size=4,
    ),
    st.binary(max_size=60) | COMPLETIONS.map(encoded),
).map(lambda parts: b"\r\n".join([parts[0], *parts[1], b"", parts[2]]))  # fmt: skip


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_any_bytes(transport):
    sent = b""

    async def script(writer, _nth):
        writer.write(sent)
        return False

    async def ask():
        client = ChatClient(server.url, "k", timeout_s=10, max_connections=1, transport=transport)
        try:
            check_reply((await client.send(b"{}")).raw)
        except CALL_ERRORS as error:
            check_decision(classify(error))
        finally:
            await client.close()

    @given(FRAMES)
    @settings(max_examples=30)
    def any_bytes(raw):
        nonlocal sent
        sent = raw
        asyncio.run(ask())

    with Wire(script) as server:
        any_bytes()
