"""Endpoints that send too much, or send prompts elsewhere; online and in batches."""

import asyncio
import gzip
import json
import re

import pytest

from autointerp.errors import AutointerpError, EndpointError
from autointerp.llm.journal.journal_file import info
from autointerp.llm.preflight import preflight
from autointerp.llm.wire import client as client_module
from autointerp.llm.wire.call_errors import CALL_ERRORS, classify
from autointerp.llm.wire.client import ChatClient
from tests.llm.test_batch import fill
from tests.llm.test_faults import Wire, chunk, good, head
from tests.support.batch_server import BatchServer
from tests.support.echo import TRANSPORTS, Echo, run, say_back
from tests.support.fake_server import FakeServer, send, status

MB = 2**20


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.sqlite"


# Sizes


async def big(writer, _nth):
    await send(writer, 200, good("x" * 2 * MB))
    return True


async def padded(writer, _nth):
    await send(writer, 200, good() + b" " * 2 * MB)
    return True


async def big_error(writer, _nth):
    await send(writer, 500, {"error": {"message": "x" * 2 * MB}})
    return True


async def endless(writer, _nth):
    writer.write(head())
    while True:
        writer.write(chunk(b" " * 65536))
        await writer.drain()


async def bomb(writer, _nth):
    raw = gzip.compress(good() + b" " * 64 * MB)
    await send(writer, 200, raw, {"Content-Encoding": "gzip"})
    return True


async def endless_stream(writer, _nth):
    writer.write(head(content_type="text/event-stream"))
    while True:
        writer.write(chunk(b": still thinking\n\n" * 1000))
        await writer.drain()


TOO_LARGE = [big, padded, big_error, endless, bomb, endless_stream]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("script", TOO_LARGE, ids=lambda script: script.__name__)
def test_more_than_any_reply_needs_is_not_read(journal, monkeypatch, script, transport):
    monkeypatch.setattr(client_module, "MAX_REPLY_BYTES", MB)
    with Wire(script) as server:
        ran = run(server, [Echo("a")], journal, transport=transport, max_attempts=2)
        assert server.arrived == 2
    assert ran.results == [("a", "too_large")]
    assert ran.troubles == ["the reply is larger than 1 MB"]
    # Tokens may have been made.
    assert info(journal).unconfirmed == 2


def test_a_large_reply_is_read(journal):
    words = "x" * 8 * MB

    async def large(writer, _nth):
        await send(writer, 200, gzip.compress(good(words), 1), {"Content-Encoding": "gzip"})
        return True

    with Wire(large) as server:
        ran = run(server, [Echo("a")], journal)
    assert ran.results == [("a", words)]


# Redirects


def ask(server, **more):
    """One completion; the text of the reply, or what is to be said of the error."""

    async def main():
        client = ChatClient(server.url, "secret-key", timeout_s=10, max_connections=1, **more)
        body = json.dumps({"model": "test-model", "messages": [{"content": "x"}]}).encode()
        try:
            reply = json.loads((await client.send(body)).raw)
            return reply["choices"][0]["message"]["content"]
        except CALL_ERRORS as error:
            return classify(error).message
        finally:
            await client.close()

    return asyncio.run(main())


def redirecting(location, code=307, times=99):
    there = lambda _r, seen, _i: status(code, location=location) if seen < times else None  # noqa: E731
    return FakeServer(say_back, faults=there)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_prompts_do_not_go_to_another_host(journal, code, transport):
    with FakeServer(say_back) as other:
        with redirecting(f"{other.url}/chat/completions", code) as server:
            expected = (EndpointError, f"redirects to http://127.0.0.1:{other.port}, another host")
            run(server, [Echo("a")], journal, error=expected, transport=transport)
            assert len(server.requests) == 1
        assert not other.requests
    assert info(journal).unconfirmed == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_they_go_there_where_that_is_allowed_and_the_key_does_not(transport):
    how = {"follow_redirects": True, "transport": transport}
    with FakeServer(say_back) as open_, FakeServer(say_back, api_key="secret-key") as closed:
        with redirecting(f"{open_.url}/chat/completions") as server:
            assert ask(server, **how) == "re: x"
        with redirecting(f"{closed.url}/chat/completions") as server:
            assert "Incorrect API key" in ask(server, **how)


def test_a_redirect_within_the_host_is_followed():
    with redirecting("/v1/chat/completions", times=2) as server:
        assert ask(server) == "re: x"


@pytest.mark.parametrize(
    ("location", "code", "words"),
    [
        ("/v1/chat/completions", 307, "more than 5 times"),
        ("/v1/chat/completions", 301, "drops the request"),
        ("file:///etc/passwd", 307, "invalid address"),
        ("http://127.0.0.1:99999/v1", 307, "invalid address"),
        ("http://127.0.0.1:x/v1", 307, "invalid address|Invalid URL in location"),
    ],
)
@pytest.mark.parametrize("allowed", [False, True])
def test_other_redirects_are_told(location, code, words, allowed):
    with redirecting(location, code) as server:
        assert re.search(words, ask(server, follow_redirects=allowed))


def test_a_check_says_where_an_endpoint_redirects_to():
    async def away(writer, _nth):
        await send(writer, 307, b"", {"Location": "https://elsewhere.example/v1"})
        return True

    with Wire(away) as server, pytest.raises(AutointerpError, match=r"https://elsewhere\.example"):
        asyncio.run(preflight(server.url, "k", "not-listed", timeout_s=10))


# Keys


@pytest.mark.parametrize("code", [200, 400, 401, 403, 404, 500])
def test_a_check_does_not_tell_the_key_that_a_server_quotes(code):
    async def quoting(writer, _nth):
        await send(writer, code, {"error": {"message": "no access with Bearer secret-key"}})
        return True

    with Wire(quoting) as server, pytest.raises(AutointerpError, match=r"\[key\]") as caught:
        asyncio.run(preflight(server.url, "secret-key", "not-listed", timeout_s=10))
    assert "secret-key" not in str(caught.value)


# Batches


ECHOES = [Echo(f"w{i}") for i in range(4)]
REFUSED = {  # what is said when a file is handed in, and what a user hears of it
    "a page": (200, b"<html>hello</html>", {}, "not JSON"),
    "no id": (200, {"id": None}, {}, "has no id"),
    "a list": (200, b"[" * 100_000, {}, "not JSON"),
    "no key": (401, {"error": {"message": "bad key"}}, {}, "bad key"),
    "redirected": (307, b"", {"Location": "http://elsewhere.example/v1/files"}, "another host"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("before", [0, 1])
def test_a_batch_that_cannot_be_handed_in_ends_in_one_line(journal, name, before):
    code, body, headers, words = REFUSED[name]
    fine = [] if not before else [(200, {"id": "file-x"}, {})]
    with BatchServer(say_back) as server:
        server.bad_posts = [*fine, *[(code, body, headers)] * 12]
        with pytest.raises(AutointerpError, match=words) as caught:
            fill(server, ECHOES, journal)
    assert "\n" not in str(caught.value)
    assert info(journal).replies == 0


@pytest.mark.parametrize("code", [429, 503])
def test_an_endpoint_that_is_busy_gets_its_batch_later(journal, code):
    busy = (code, {"error": {"message": "slow down"}}, {"Retry-After": "1"})
    with BatchServer(say_back) as server:
        server.bad_posts = [busy, busy]
        fill(server, ECHOES, journal)
        assert len(server.batches) == 1
    assert info(journal).replies == 4


class Odd(BatchServer):
    """`odd` is put over what a batch is, for the first `looks` looks at it."""

    def __init__(self, respond, odd, looks=99):
        super().__init__(respond)
        self.odd, self.looks = odd, looks

    def look(self, name):
        batch = super().look(name)
        return batch | self.odd if self.looked[name] <= self.looks else batch


@pytest.mark.parametrize("odd", [{"status": None}, {"status": ["x"]}, {"status": 3}])
def test_a_batch_of_no_status_is_given_up_after_a_while(journal, odd):
    with Odd(say_back, odd) as server, pytest.raises(AutointerpError, match="has no status"):
        fill(server, ECHOES, journal)


ODD = [
    {"status": "pending"},
    {"status": "\x1b[31mQUEUED"},
    {"status": "in_progress", "request_counts": [1]},
    {"status": "in_progress", "request_counts": {"completed": 10**400, "total": "x"}},
]


@pytest.mark.parametrize("odd", ODD)
def test_a_batch_of_an_unknown_status_is_waited_for(journal, odd):
    with Odd(say_back, odd, looks=3) as server:
        events = fill(server, ECHOES, journal)
    assert info(journal).replies == 4
    assert not any("\x1b" in event for event in events)


@pytest.mark.parametrize("errors", [None, "x", [1], {"data": "x"}, {"data": [None, 3, {}]}])
def test_a_batch_may_fail_without_a_reason(journal, errors):
    odd = {"status": "failed", "errors": errors}
    with Odd(say_back, odd) as server, pytest.raises(AutointerpError, match="failed: "):
        fill(server, ECHOES, journal)


def lines(*values):
    return b"".join(v if isinstance(v, bytes) else json.dumps(v).encode() + b"\n" for v in values)


KEY = "0" * 64
BAD_LINES = [
    b"<html>\n",
    b"[" * 100_000 + b"\n",
    b"\xff\xfe\n",
    [],
    {},
    {"custom_id": 3, "response": {"status_code": 200, "body": {}}},
    {"custom_id": "x" * 5000, "response": {"status_code": 200, "body": {}}},
    {"custom_id": KEY, "response": []},
    {"custom_id": KEY, "response": None, "error": {"message": "not in time"}},
    {"custom_id": KEY, "response": {"status_code": "200", "body": {}}},
    {"custom_id": KEY, "response": {"status_code": 10**400, "body": {}}},
    {"custom_id": KEY, "response": {"status_code": 500, "body": {"error": [1]}}},
]


def test_what_cannot_be_read_of_a_batch_is_counted_and_the_rest_kept(journal):
    class Garbled(BatchServer):
        def store(self, content):
            is_result = b'"custom_id": ' in content and b'"url"' not in content
            return super().store(lines(*BAD_LINES, content, *BAD_LINES) if is_result else content)

    with Garbled(say_back) as server:
        events = fill(server, ECHOES, journal)
    assert info(journal).replies == 4
    bad = 2 * len(BAD_LINES)
    assert any(event.startswith(f"{bad} requests of the batch have no reply") for event in events)


def test_a_failure_inside_a_batchs_reply_is_not_kept(journal):
    failed = {"choices": [{"finish_reason": "error", "message": {"content": ""}}]}
    with BatchServer(say_back, spoil=lambda _: (200, failed)) as server:
        fill(server, ECHOES, journal)
    assert (info(journal).replies, info(journal).unreadable) == (0, 8)


def test_results_without_end_are_not_read(journal, monkeypatch):
    monkeypatch.setattr(client_module, "_MAX_FILE_BYTES", MB)

    class Large(BatchServer):
        def store(self, content):
            return super().store(content if b'"url"' in content else content + b"\n" * 2 * MB)

    with Large(say_back) as server, pytest.raises(AutointerpError, match="larger than 1 MB"):
        fill(server, ECHOES, journal)
