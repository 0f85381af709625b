"""The pool against endpoints that misbehave. Numbers are those of the list of faults in llmops.md.

Faults of the reply's content are the jobs' business and tested with them; what test_pool.py,
test_parts.py and test_journal.py inject is not repeated here.
"""

import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing
from email.utils import formatdate

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import EndpointError
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.journal_file import info
from autointerp.llm.limits.rate_limiter import RateLimiter
from autointerp.llm.limits.retry import backoff_s
from autointerp.llm.wire.call_errors import Decision, parse_retry_after
from autointerp.llm.wire.client import ChatClient
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import Usage
from tests.support.echo import DIALECT, PRICE, TRANSPORTS, Echo, run, say_back
from tests.support.fake_server import FakeServer, Fault, send, status


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.sqlite"


def echoes(n, prefix="w"):
    return [Echo(f"{prefix}{i}") for i in range(n)]


def answers(jobs):
    return [(job.word, f"re: {job.word}") for job in jobs]


def good(words="fine", **more):
    """A chat completion's bytes."""
    message = {"role": "assistant", "content": words}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 40, "completion_tokens": 2}
    return json.dumps({"model": "test-model", "choices": [choice], "usage": usage} | more).encode()


def head(length=None, content_type="application/json"):
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 200 X\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n".encode()


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def usage_for(body):
    """What FakeServer says that a reply of one word used."""
    return Usage(len(body) // 4, 1)


class Wire(FakeServer):
    """`script(writer, nth)` writes the reply to the nth request itself and says whether the
    connection stays open, or returns None for an ordinary reply."""

    def __init__(self, script, **more):
        super().__init__(say_back, **more)
        self.script = script
        self.arrived = 0

    async def _complete(self, raw, writer):
        self.arrived += 1
        kept = await self.script(writer, self.arrived - 1)
        if kept is None:
            return await super()._complete(raw, writer)
        await writer.drain()
        return kept


def nobody():
    """The URL of a port on which nothing listens."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


# 1 to 7, 10: refusals for rate, and pacing


RETRY_AFTER = {  # headers, and the least and the most of the server's part of the wait
    "seconds": ({"retry-after": "2"}, 2, 2),
    "a fraction": ({"retry-after": "0.5"}, 0.5, 0.5),
    "milliseconds": ({"retry-after-ms": "150"}, 0.15, 0.15),
    "milliseconds first": ({"retry-after-ms": "150", "retry-after": "9"}, 0.15, 0.15),
    "a date": ({"retry-after": formatdate(time.time() + 3600, usegmt=True)}, 60, 60),
    "a date without zone": ({"retry-after": formatdate(time.time() + 3600)[:-6]}, 60, 60),
    "a past date": ({"retry-after": formatdate(time.time() - 60, usegmt=True)}, 0, 0),
    "an hour": ({"retry-after": "3600"}, 60, 60),
    "negative": ({"retry-after": "-1"}, 0, 0),
    "nan": ({"retry-after": "nan"}, 0, 0),
    "infinite": ({"retry-after": "inf"}, 0, 0),
    "a word": ({"retry-after": "banana"}, 0, 0),
    "empty": ({"retry-after": ""}, 0, 0),
    "no date": ({"retry-after": "1 Jan 99999999999999999999 00:00:00"}, 0, 0),
    # 5: the other headers are no promise; the jittered backoff is waited out.
    "reset only": ({"x-ratelimit-reset-tokens": "6m0s"}, 0, 0),
}


@pytest.mark.parametrize("name", RETRY_AFTER)
def test_1_to_5_retry_after_is_the_least_wait_and_is_capped(journal, name):
    headers, least, most = RETRY_AFTER[name]
    fault = Fault("status", status=429, headers=headers, body={"error": {"message": "slow"}})
    refused = lambda request, seen, _i: (  # noqa: E731
        fault if request["messages"][0]["content"] == "w0" and seen < 7 else None
    )
    jobs = echoes(5)
    with FakeServer(say_back, faults=refused) as server:
        ran = run(server, jobs, journal, max_attempts=2)
    assert sorted(ran.results) == answers(jobs)
    # None of the attempts was used up, and the jitter's bound doubles up to a minute.
    assert len(ran.slept) == 7
    for n, slept in enumerate(ran.slept):
        assert least <= slept <= most + min(60, 2 * 2**n)


def test_7_refusals_without_end_have_a_longest_wait():
    refused = Decision("retry", "rate_limit", "", counted=False, retry_after_s=89.0)
    assert backoff_s(refused, 5000, 1.0) == 120


@given(st.text(max_size=40) | st.builds("{} Jan {} 00:00:{} {:+}".format, *[st.integers()] * 4))
def test_3_no_retry_after_raises_or_waits_for_less_than_nothing(value):
    seconds = parse_retry_after({"retry-after": value, "retry-after-ms": value}, 0.0)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize("zone", ["UTC", "EST+5", "CET-1"])
def test_3_a_date_without_zone_is_universal_time(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        seconds = parse_retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:10"}, 1792567680.0)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert seconds == 10


def test_4_others_go_on_while_one_waits_an_hour(journal):
    def fault(request, seen, _index):
        first = request["messages"][0]["content"] == "w0" and seen == 0
        return status(429, retry_after="3600") if first else None

    woken = asyncio.Event()
    most = []

    async def sleep(seconds):
        most.append(seconds)
        await woken.wait()

    async def others_are_done(_running, _stop):
        while server.served.total() < 99:
            await asyncio.sleep(0.001)
        woken.set()

    with FakeServer(say_back, faults=fault) as server:
        ran = run(server, echoes(100), journal, sleep=sleep, during=others_are_done, concurrency=2)
    assert ran.results[-1] == ("w0", "re: w0")
    assert 60 <= most[0] <= 62


def test_6_everything_refused_for_long_then_healthy(journal):
    jobs = echoes(600)
    with FakeServer(say_back, faults=lambda _r, _s, i: status(429) if i < 600 else None) as server:
        ran = run(
            server, jobs, journal, concurrency=64, min_concurrency=1, max_concurrency=64,
            max_attempts=2,
        )  # fmt: skip
    assert sorted(ran.results) == sorted(answers(jobs))
    assert ran.totals.rate_limited == 600
    assert ran.totals.failures == 0
    assert ran.totals.limit >= 0.5 * 64


def test_6_refused_beyond_the_longest_time_is_given_up_and_kept_for_another_run(journal):
    with FakeServer(say_back, faults=lambda *_: status(429)) as server:
        ran = run(server, [Echo("a")], journal, longest_s=0.05)
        assert ran.results == [("a", "rate_limit")]
        server.faults = None
        assert run(server, [Echo("a")], journal).results == [("a", "re: a")]


def test_10_the_pace_is_taken_from_the_headers(journal):
    async def limited(writer, _nth):
        headers = {"x-ratelimit-limit-requests": "6000", "x-ratelimit-limit-tokens": "1e9"}
        await send(writer, 200, good(), headers)
        return True

    with Wire(limited) as server:
        began = time.monotonic()
        ran = run(server, echoes(200), journal)
        took = time.monotonic() - began
    assert len(ran.results) == 200
    # 95 in the first second, and as many in the next.
    assert took >= 1.0


@pytest.mark.parametrize("value", ["banana", "", "0", "-5", "nan", "inf", "1e-300"])
def test_10_a_limit_that_is_none_paces_nothing(value):
    rate_limiter = RateLimiter(None, None)
    rate_limiter.heed_headers(
        {"x-ratelimit-limit-requests": value, "x-ratelimit-limit-tokens": value}
    )
    assert (rate_limiter.requests_per_minute, rate_limiter.tokens_per_minute) == (None, None)


def test_10_what_the_user_sets_goes_before_the_headers():
    rate_limiter = RateLimiter(10, None)
    rate_limiter.heed_headers(
        {"x-ratelimit-limit-requests": "6000", "x-ratelimit-limit-tokens": "100"}
    )
    assert (rate_limiter.requests_per_minute, rate_limiter.tokens_per_minute) == (10, 95)


# 14, 22 to 24, 31: refusing for good, and being away


def test_14_a_key_revoked_after_many_successes(journal):
    with FakeServer(say_back) as server:
        server.faults = lambda _r, _s, i: status(401, "revoked") if i >= 500 else None
        ran = run(server, echoes(1000), journal, error=(EndpointError, "revoked"))
        assert len(server.requests) <= 500 + 16
        assert len(ran.results) == 500 == info(journal).replies
        assert info(journal).unconfirmed == 0
        server.faults = None
        again = run(server, echoes(1000), journal)
    assert (again.totals.from_journal, again.totals.requests) == (500, 500)
    assert set(server.served.values()) == {1}


@pytest.mark.parametrize("fault", [status(503), status(529), Fault("raw", body=b"<html>")])
def test_23_an_outage_opens_the_circuit_and_burns_no_attempts(journal, fault):
    began = None

    def outage(_request, _seen, index):
        nonlocal began
        if index < 50:
            return None
        began = began or time.monotonic()
        # However slow the machine, so many fail that the circuit opens.
        return fault if index < 90 or time.monotonic() < began + 0.4 else None

    jobs = echoes(300)
    with FakeServer(say_back, faults=outage) as server:
        ran = run(server, jobs, journal, first_pause_s=0.01)
    assert sorted(ran.results) == sorted(answers(jobs))
    assert ["paused" in event for event in ran.events] == [True, False]
    assert ran.events[1] == f"{server.url} answers again"
    # 32 in a row open the circuit, and each of at most 16 replies from before the outage that come
    # late begins the count anew; those in flight and probes at doubling pauses come on top.
    assert ran.totals.retries <= (16 + 1) * 32 + 16 + 7


def test_23_one_request_probes_for_long_and_keeps_its_attempts(journal):
    """A page instead of a reply says nothing of the request while the endpoint is down."""
    with FakeServer(say_back) as server:
        server.faults = lambda _r, _s, i: Fault("raw", body=b"<html>") if i < 16 else None
        ran = run(server, echoes(2), journal, concurrency=1, max_concurrency=1, first_pause_s=0.001)
    assert sorted(ran.results) == answers(echoes(2))


def test_24_an_endpoint_that_stays_down_stops_the_run_and_all_is_kept(journal):
    jobs = echoes(200)
    with FakeServer(say_back, faults=lambda _r, _s, i: status(503) if i >= 50 else None) as server:
        stopped = run(
            server, jobs, journal, first_pause_s=0.01, longest_s=0.5,
            error=(EndpointError, r"has been down for .* minutes: status 503"),
        )  # fmt: skip
        assert sorted(stopped.results) == sorted(set(stopped.results))
        assert info(journal).replies == 50 == len(stopped.results)
        server.faults = None
        again = run(server, jobs, journal)
    assert sorted(again.results) == sorted(answers(jobs))
    assert (again.totals.from_journal, again.totals.requests) == (50, 150)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_31_a_refused_connection_is_never_sent_and_never_counted(journal, transport):
    ran = run(
        nobody(), echoes(3), journal, transport=transport, first_pause_s=0.01, longest_s=0.3,
        max_attempts=2, error=(EndpointError, "no connection"),
    )  # fmt: skip
    assert ran.results == []
    assert (ran.totals.unconfirmed, ran.totals.spent_usd, info(journal).unconfirmed) == (0, 0, 0)


# 25 to 30, 33 to 35, 37: the wire


async def html(writer, _nth):
    page = b"<html>Bad gateway</html>"
    writer.write(head(len(page), "text/html") + page)
    return True


async def no_last_chunk(writer, _nth):
    writer.write(head() + chunk(good()))
    return False


async def too_short(writer, _nth):
    writer.write(head(len(good()) + 10) + good())
    return False


async def reset(writer, _nth):
    linger = b"\1\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    return False


async def only_a_head(writer, _nth):
    writer.write(head(len(good())))
    await writer.drain()
    await asyncio.Event().wait()


async def half_a_head(writer, _nth):
    writer.write(b"HTTP/1.1 200 X\r\nContent-Ty")
    return False


async def garbage(writer, _nth):
    writer.write(b"\0\1\2 this is no HTTP\r\n\r\n")
    return False


async def no_gzip(writer, _nth):
    writer.write(b"HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")
    return True


WIRE = {  # what goes wrong, and whether a reply that was received, or a doubt, comes of it
    html: "spoiled",
    no_last_chunk: "doubt",
    too_short: "doubt",
    reset: "doubt",
    only_a_head: "doubt",
    half_a_head: "doubt",
    garbage: "doubt",
    no_gzip: "doubt",
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", WIRE, ids=lambda fault: fault.__name__)
def test_25_to_33_faults_of_the_wire_are_tried_again(journal, fault, transport):
    async def once(writer, nth):
        return await fault(writer, nth) if nth == 0 else None

    with Wire(once) as server:
        # Only the one that goes silent waits for it: a busy machine is slow to connect, too.
        patience = 1.0 if fault is only_a_head else 20.0
        ran = run(server, [Echo("a")], journal, transport=transport, timeout_s=patience)
        assert server.arrived == 2
    assert ran.results == [("a", "re: a")]
    assert ran.totals.retries == 1
    found = info(journal)
    assert (found.unreadable, found.unconfirmed) == ((1, 0) if WIRE[fault] == "spoiled" else (0, 1))
    assert ran.totals.unconfirmed == found.unconfirmed


def test_25_the_bytes_of_a_page_are_kept(journal):
    async def once(writer, nth):
        return await html(writer, nth) if nth == 0 else None

    with Wire(once) as server:
        run(server, [Echo("a")], journal)
    with closing(sqlite3.connect(journal)) as read:
        rows = read.execute("SELECT reply FROM spoiled").fetchall()
    assert [zlib.decompress(raw) for (raw,) in rows] == [b"<html>Bad gateway</html>"]


def test_27_a_reply_that_was_cut_is_booked_as_paid(journal):
    """Its usage is cut off with it, but the tokens were made."""
    with FakeServer(say_back) as server:
        server.faults = lambda _r, seen, _i: Fault("truncate") if seen == 0 else None
        ran = run(server, [Echo("a")], journal)
    bill = PRICE.cost(usage_for(server.bodies[0]))
    assert ran.totals.spent_usd >= 2 * bill
    assert ran.totals.cost_usd == pytest.approx(ran.totals.spent_usd)


@pytest.mark.parametrize("fault", [html, None], ids=["a page", "an error"])
def test_28_what_is_no_completion_at_all_costs_nothing(journal, fault):
    async def once(writer, nth):
        if nth:
            return None
        if fault:
            return await fault(writer, nth)
        await send(writer, 200, {"error": {"code": 502, "message": "upstream"}})
        return True

    with Wire(once) as server:
        ran = run(server, [Echo("a")], journal)
    assert ran.totals.spent_usd == pytest.approx(PRICE.cost(usage_for(server.bodies[0])))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_34_blank_lines_for_ever_end_at_the_total(journal, transport):
    async def blank(writer, nth):
        if nth:
            return
        writer.write(head())
        while True:
            writer.write(chunk(b"\n"))
            await writer.drain()
            await asyncio.sleep(0.01)

    with Wire(blank) as server:
        began = time.monotonic()
        ran = run(server, [Echo("a")], journal, transport=transport, timeout_s=0.5)
        took = time.monotonic() - began
    assert ran.results == [("a", "re: a")]
    assert ran.troubles == ["timed out waiting for a reply"]
    assert took >= 2.5
    assert info(journal).unconfirmed == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_35_blank_lines_and_then_a_good_reply(journal, transport):
    async def late(writer, _nth):
        writer.write(head())
        for _ in range(120):
            writer.write(chunk(b"\n"))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(chunk(good()) + b"0\r\n\r\n")
        return True

    with Wire(late) as server:
        # In all it takes longer than the silence that is borne.
        ran = run(server, [Echo("a")], journal, transport=transport, timeout_s=1.0)
    assert ran.results == [("a", "fine")]
    assert ran.totals.retries == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_37_connections_that_the_server_closes_between_requests(transport):
    async def reply_and_close(writer, _nth):
        await send(writer, 200, good())
        return False

    async def main():
        client = ChatClient(server.url, "k", timeout_s=5, max_connections=2, transport=transport)
        for _ in range(20):
            assert (await client.send(b'{"model":"m"}')).raw == good()
            await asyncio.sleep(0.005)  # the close arrives
        await client.close()

    with Wire(reply_and_close) as server:
        asyncio.run(main())


# 19: parameters that an endpoint does not support


def refuse(**complaints):
    """Refuses requests with these parameters, in these words; `type of` looks into the format."""

    def fault(request, _seen, _index):
        form = (request.get("response_format") or {}).get("type")
        for name, (code, words) in complaints.items():
            if name in request or name == form:
                return status(code, words)
        return None

    return fault


SCHEMA = "Invalid parameter: 'response_format' of type 'json_schema' is not supported"
OBJECT = "'response_format.type' must be 'text': 'json_object' is unsupported"
TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead."
)
NEWER = "unexpected keyword: max_completion_tokens. Extra inputs are not permitted, extra_forbidden"
WARM = "Unsupported value: 'temperature' does not support 0.0 with this model."
THINK = "Unrecognized request argument supplied: chat_template_kwargs"
COUNTS = "counts in a schema"  # given up first where a grammar is at fault
UNSUPPORTED = {
    "schema": ({}, refuse(json_schema=(400, SCHEMA)), ["json_schema"]),
    "formats": (
        {},
        refuse(json_schema=(400, SCHEMA), json_object=(422, OBJECT)),
        ["json_schema", "json_object"],
    ),
    "late": ({}, refuse(json_schema=(500, "response_format: no grammar")), [COUNTS, "json_schema"]),
    "max_tokens": ({}, refuse(max_tokens=(400, TOKENS)), ["max_tokens"]),
    "max_completion_tokens": (
        {"limit_name": "max_completion_tokens"},
        refuse(max_completion_tokens=(422, NEWER)),
        ["max_completion_tokens"],
    ),
    "temperature": ({}, refuse(temperature=(400, WARM)), ["temperature"]),
    "thinking": (
        {"optional": {"chat_template_kwargs": {"enable_thinking": False}}},
        refuse(chat_template_kwargs=(400, THINK)),
        ["chat_template_kwargs"],
    ),
    "all": (
        {"optional": {"chat_template_kwargs": {"enable_thinking": False}}},
        refuse(
            temperature=(400, WARM),
            json_schema=(400, SCHEMA),
            chat_template_kwargs=(400, THINK),
            max_tokens=(400, TOKENS),
            json_object=(422, OBJECT),
        ),
        ["temperature", "json_schema", "chat_template_kwargs", "max_tokens", "json_object"],
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_19_what_is_refused_is_given_up_once_and_remembered(journal, name):
    more, refusing, lost = UNSUPPORTED[name]
    dialect = Dialect(**more)
    jobs = echoes(40)
    with FakeServer(say_back, faults=refusing) as server:
        one = run(server, [Echo("first")], journal, dialect=dialect)
        assert len(server.requests) == len(lost) + 1
        assert one.events == [
            f"{server.url} does not support {name}: no longer sending it" for name in lost
        ]
        assert info(journal).unconfirmed == 0
        ran = run(server, jobs, journal, dialect=dialect)
        assert sorted(ran.results) == sorted(answers(jobs))
        assert ran.totals.retries == 0
        assert len(server.requests) == len(lost) + 41
        again = run(server, [Echo("first"), *jobs], journal, dialect=dialect)
    assert again.totals.from_journal == 41
    assert len(server.requests) == len(lost) + 41


def test_19_many_at_once_meet_the_same_refusal(journal):
    more, refusing, lost = UNSUPPORTED["all"]
    with FakeServer(say_back, faults=refusing) as server:
        ran = run(server, echoes(64), journal, dialect=Dialect(**more))
        assert len(ran.events) == len(lost)
        # At most what the workers had put into words before they heard of it.
        assert len(server.requests) <= 64 + 32 * len(lost)
    assert sorted(ran.results) == sorted(answers(echoes(64)))


def test_19_replies_are_found_whatever_was_refused_after_them(journal):
    """A server that is updated while a run is on: each reply is under the dialect of its time."""
    jobs = echoes(30)

    def fault(request, _seen, _index):
        served = server.served.total()
        if served >= 10 and "temperature" in request:
            return status(400, WARM)
        if served >= 20 and "response_format" in request:
            return status(400, OBJECT)
        return None

    with FakeServer(say_back, faults=fault) as server:
        ran = run(server, jobs, journal, concurrency=1)
        assert [event.split()[-5] for event in ran.events] == ["temperature:", "json_object:"]
        asked = len(server.requests)
        again = run(server, jobs, journal)
        assert sorted(again.results) == sorted(ran.results)
        assert again.totals.from_journal == 30
        assert len(server.requests) == asked


def test_19_a_refusal_that_names_nothing_known_stops_the_run(journal):
    with FakeServer(say_back, faults=lambda *_: status(400, "Unsupported parameter: foo")) as srv:
        run(srv, echoes(1), journal, error=(EndpointError, "parameter: foo"))
        assert len(srv.requests) == 1


# 31, 32, 59: several endpoints


PAGE = Fault("raw", body=b"<html>down</html>")
ONE_BAD = {  # what one of two endpoints does, and the event that must tell of it
    "fails": (lambda *_: status(500), None),
    "overloaded": (lambda *_: status(503), None),
    "refuses for rate": (lambda *_: status(429), None),
    "a page": (lambda *_: PAGE, None),
    "refuses the key": (lambda *_: status(401, "bad key"), "status 401: bad key"),
    "no money": (lambda *_: status(402, "pay"), "pay"),
    "a refusal inside": (
        lambda *_: Fault("raw", body={"error": {"code": 401, "message": "bad key"}}),
        "status 401: error in the reply: bad key",
    ),
    "hangs": (lambda *_: Fault("hang"), None),
    "drops": (lambda *_: Fault("drop"), None),
    "nobody": (None, None),
}


@pytest.mark.parametrize("name", ONE_BAD)
@pytest.mark.parametrize("bad_first", [True, False])
def test_59_one_of_two_endpoints_is_of_no_use(journal, name, bad_first):
    faults, told = ONE_BAD[name]
    jobs = echoes(80)
    with FakeServer(say_back) as ok, FakeServer(say_back, faults=faults) as bad:
        bad_url = bad.url if faults else nobody()
        both = [bad_url, ok.url] if bad_first else [ok.url, bad_url]
        ran = run(
            both, jobs, journal, timeout_s=1.0, max_attempts=20, min_concurrency=1,
            first_pause_s=0.1,
        )  # fmt: skip
        assert sorted(ran.results) == sorted(answers(jobs))
        assert ok.served.total() == 80
        again = run(both, jobs, journal)
        assert again.totals.from_journal == 80
    of_bad = [event for event in ran.events if bad_url in event]
    assert len(of_bad) == (1 if told else len(of_bad))
    # One that fails may be spared before it has failed often enough.
    expected = f"no longer using {bad_url}: {told}" if told else "paused"
    assert all(expected in event for event in of_bad)


@pytest.mark.parametrize("bad_first", [True, False])
def test_59_one_refuses_for_rate_and_neither_takes_more_than_one(journal, bad_first):
    """Being idle, it has the most room: a request that it refused must get to the other."""
    with FakeServer(say_back) as ok, FakeServer(say_back, faults=lambda *_: status(429)) as bad:
        both = [bad, ok] if bad_first else [ok, bad]
        ran = run(both, echoes(20), journal, concurrency=1)
        assert sorted(ran.results) == sorted(answers(echoes(20)))
        assert ran.totals.retries <= 10 * 20


def test_59_both_refuse_the_key(journal):
    bad = lambda _r, _s, index: status(401, "bad key") if index >= 20 else None  # noqa: E731
    with FakeServer(say_back, faults=bad) as one, FakeServer(say_back, faults=bad) as two:
        ran = run([one, two], echoes(200), journal, error=(EndpointError, "bad key"))
        assert info(journal).replies == 40 == len(ran.results)
        assert len(ran.events) == 1


# 47, 56: usage and the budget


USAGE = {
    "none": None,
    "a number": 7,
    "zero": {"prompt_tokens": 0, "completion_tokens": 0},
    "negative": {"prompt_tokens": -5, "completion_tokens": -1},
    "text": {"prompt_tokens": "12", "completion_tokens": "3"},
}


@pytest.mark.parametrize("name", USAGE)
def test_47_a_reply_that_does_not_say_what_it_used_is_booked_at_the_most(journal, name):
    async def silly(writer, _nth):
        await send(writer, 200, good(usage=USAGE[name]))
        return True

    with Wire(silly) as server:
        ran = run(server, [Echo("a")], journal)
        body = DIALECT.body(Echo("a").request())
        assert ran.totals.cost_usd == pytest.approx(PRICE.worst(len(body) + 16, 10))
        again = run(server, [Echo("a")], journal)
    assert again.totals.cost_usd == pytest.approx(ran.totals.cost_usd)
    assert again.totals.requests == 0


def test_47_huge_usage_breaks_nothing(journal):
    async def silly(writer, _nth):
        usage = {"prompt_tokens": 10**30, "completion_tokens": 10**400, "cost": 1e400}
        await send(writer, 200, good(usage=usage))
        return True

    with Wire(silly) as server:
        ran = run(server, echoes(20), journal)
    assert len(ran.results) == 20
    assert info(journal).prompt_tokens == 20 * 10**9 == ran.totals.prompt_tokens


def bill(server, made):
    """What a server would charge that bills all it made, whatever became of it."""
    prompt = sum(len(raw) // 4 for raw in server.bodies[: len(made)])
    return (prompt * PRICE.input + sum(len(words) // 4 for words in made) * PRICE.output) / 1e6


@pytest.mark.parametrize("faulty", [False, True])
def test_56_the_budget_is_never_exceeded_and_raising_it_goes_on(journal, faulty):
    """Each call costs about a hundredth; with faults, also those are billed that failed."""
    made = []

    def respond(request):
        made.append(say_back(request))
        return made[-1]

    def fault(_request, _seen, index):
        kinds = [Fault("drop"), Fault("half"), Fault("truncate"), status(500)]
        return kinds[index // 5 % 4] if faulty and index % 5 == 0 else None

    jobs = echoes(150)
    with FakeServer(respond, faults=fault) as server:
        one = PRICE.cost(usage_for(DIALECT.body(jobs[0].request())))
        budget = 40 * one
        first = run(server, jobs, journal, budget_usd=budget)
        assert bill(server, made) <= first.totals.spent_usd + 1e-12 <= budget + 2e-12
        kinds = {kind for _, kind in first.results}
        assert "over_budget" in kinds
        assert len(first.results) == 150 == len(dict(first.results))
        done = {word for word, kind in first.results if kind.startswith("re: ")}
        assert len(done) == info(journal).replies
        # The same budget buys nothing more: what is in doubt is taken for spent.
        opened = Journal.open(journal)
        assert len(opened.take_up_unconfirmed()) == first.totals.unconfirmed
        assert opened.spent_usd() == pytest.approx(first.totals.spent_usd)
        opened.close()
        asked = len(server.requests)
        # A retry could fit into the little that was left, but never exceeds it.
        same = run(server, jobs, journal, budget_usd=budget)
        assert same.totals.spent_usd <= budget
        assert len(server.requests) - asked <= 1
        more = run(server, jobs, journal, budget_usd=10 * budget)
    assert sorted(more.results) == sorted(answers(jobs))
    assert more.totals.from_journal >= len(done)
    assert bill(server, made) <= more.totals.spent_usd + 1e-12
    assert more.totals.spent_usd <= 10 * budget
    if not faulty:
        assert set(server.served.values()) == {1}


# 51: few files


def test_51_few_open_files_lower_the_ceiling_and_break_nothing(journal):
    """In a process of its own, whose limits are lowered for good."""
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from autointerp.llm.wire.client import connections_allowed\n"
        "from tests.support.echo import Echo, run\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))\n"
        "most = connections_allowed(256)\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 128\n"
        "ran = run(sys.argv[1], [Echo(f'w{i}') for i in range(300)], Path(sys.argv[2]),\n"
        "    concurrency=most, max_concurrency=most)\n"
        "print(most, len(dict(ran.results)), ran.totals.retries)\n"
    )
    with FakeServer(say_back) as server:
        done = subprocess.run(
            [sys.executable, "-c", script, server.url, str(journal)],
            check=False, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    assert done.stdout.split() == ["56", "300", "0"], done.stderr


def test_the_sdk_retries_nothing_itself():
    async def main():
        client = ChatClient(server.url, "k", timeout_s=5, max_connections=2)
        with pytest.raises(openai.InternalServerError):
            await client.send(b'{"model":"test-model","messages":[{"content":"x"}]}')
        await client.close()

    with FakeServer(say_back, faults=lambda *_: status(500)) as server:
        asyncio.run(main())
        assert len(server.requests) == 1
