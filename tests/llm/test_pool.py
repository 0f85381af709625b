import asyncio
import time
from dataclasses import dataclass, replace

import pytest

from autointerp.errors import (
    AutointerpError,
    EndpointError,
    EndpointRejectedError,
    EndpointUnreachableError,
)
from autointerp.llm.journal.journal_file import info
from autointerp.llm.limits.prices import price_of
from autointerp.llm.pool import Drained, Step
from autointerp.llm.preflight import _probe, preflight
from autointerp.llm.wire.client import ChatClient
from tests.support.echo import DIALECT, TRANSPORTS, Echo, run, say_back
from tests.support.fake_server import FakeServer, Fault, status


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.sqlite"


def test_every_job_and_follow_up_ends_in_a_result(journal):
    with FakeServer(say_back) as server:
        ran = run(server, [Echo(f"w{i}", then=2) for i in range(50)], journal)
    expected = {f"w{i}{'+' * n}" for i in range(50) for n in range(3)}
    assert dict(ran.results) == {word: f"re: {word}" for word in expected}
    assert len(ran.results) == 150 == ran.totals.requests == len(server.requests)


def test_what_is_sent_is_what_was_hashed(journal):
    with FakeServer(say_back) as server:
        run(server, [Echo("naïve \ud83d")], journal)
    assert server.bodies == [DIALECT.body(Echo("naïve \ud83d").request())]
    assert server.requests[0]["messages"][0]["content"] == "naïve ?"


def test_a_second_run_asks_for_nothing(journal):
    jobs = [Echo(f"w{i}", then=1) for i in range(20)]
    with FakeServer(say_back) as server:
        first = run(server, jobs, journal)
        second = run(server, jobs, journal)
        assert len(server.requests) == 40
        assert sorted(first.results) == sorted(second.results)
        assert second.totals.from_journal == 40
        assert second.totals.requests == 0
        # The replies cost what they cost, no matter where they come from.
        assert second.totals.cost_usd == pytest.approx(first.totals.cost_usd)
        run(server, [Echo("w0", attempt=1)], journal)
        assert len(server.requests) == 41


def test_tokens_and_cost_add_up(journal):
    with FakeServer(say_back) as server:
        ran = run(server, [Echo(f"w{i}") for i in range(7)], journal)
    prompt = sum(len(b) // 4 for b in server.bodies)
    assert ran.totals.prompt_tokens == prompt
    assert ran.totals.cost_usd == pytest.approx((prompt + 2 * ran.totals.completion_tokens) / 1e6)


@dataclass(frozen=True)
class Roomier(Echo):
    """Asks once more with ten times the room, and gives what both took."""

    room: int = 1
    taken: int = 0

    def request(self):
        return replace(super().request(), max_tokens=10 * self.room)

    def reduce(self, outcome):
        taken = self.taken + outcome.usage.prompt_tokens
        if self.room == 1:
            return Step(follow_ups=[replace(self, room=10, taken=taken)])
        return Step(results=[taken], unreadable=[(outcome.key, outcome.key)])


@pytest.mark.parametrize("bound", [{}, {"max_tokens": 5}])
def test_more_room_that_the_user_does_not_allow_is_not_paid_for(journal, bound):
    dialect = replace(DIALECT, extra=bound)
    with FakeServer(say_back) as server:
        ran = run(server, [Roomier("word")], journal, dialect=dialect)
    assert len(server.bodies) == (1 if bound else 2)
    sent = sum(len(body) // 4 for body in server.bodies)
    assert ran.results == [sent]
    assert ran.totals.prompt_tokens == sent == info(journal).prompt_tokens


def test_concurrency_is_kept_and_used(journal):
    with FakeServer(say_back) as server:

        def fault(_request, _seen, _index):
            if server.in_flight == 5:
                server.release.set()
            return Fault("slow")

        server.faults = fault
        run(server, [Echo(f"w{i}") for i in range(30)], journal, concurrency=5)
    assert server.peak == 5


def test_jobs_are_pulled_only_as_there_is_room(journal):
    pulled = 0
    most_ahead = 0

    def jobs():
        nonlocal pulled
        for i in range(200):
            pulled += 1
            yield Echo(f"w{i}")

    def watch(request):
        nonlocal most_ahead
        most_ahead = max(most_ahead, pulled - server.served.total())
        return say_back(request)

    with FakeServer(watch) as server:
        run(server, jobs(), journal, concurrency=4)
    assert pulled == 200
    assert most_ahead <= 4 * 4


def test_identical_requests_in_flight_are_asked_once(journal):
    with FakeServer(say_back) as server:
        server.faults = lambda *_: server.release.set() or Fault("slow")
        ran = run(server, [Echo("same")] * 8, journal, concurrency=8)
    assert len(server.requests) == 1
    assert ran.results == [("same", "re: same")] * 8


TRANSIENT = {
    "500": status(500),
    "502": status(502),
    "503": status(503, retry_after="1"),
    "429": status(429, retry_after="3"),
    "429 ms": status(429, retry_after_ms="150"),
    "408": status(408),
    "dropped": Fault("drop"),
    "half a body": Fault("half"),
    "truncated JSON": Fault("truncate"),
    "HTML": Fault("raw", body=b"<html>Bad gateway</html>"),
    "empty": Fault("raw", body=b""),
    "blank": Fault("raw", body=b"   \n"),
    "no choices": Fault("raw", body={"choices": []}),
    "null choices": Fault("raw", body={"choices": None}),
    "error inside": Fault("raw", body={"error": {"code": 502, "message": "upstream"}}),
    "a bare string": Fault("raw", body="hello"),
    "a list": Fault("raw", body=[1]),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_transient_faults_are_retried(journal, name):
    def once(_request, seen, _index):
        return TRANSIENT[name] if seen == 0 else None

    with FakeServer(say_back, faults=once) as server:
        ran = run(server, [Echo("a"), Echo("b")], journal)
    assert sorted(ran.results) == [("a", "re: a"), ("b", "re: b")]
    assert ran.totals.retries == 2 == len(ran.slept)
    assert all(n == 1 for n in server.served.values())
    least = {"503": 1, "429": 3, "429 ms": 0.15}.get(name, 0)
    assert all(least <= s <= least + 2 for s in ran.slept)


def test_a_request_that_hangs_times_out_and_is_tried_again(journal):
    def once(_request, seen, _index):
        return Fault("hang") if seen == 0 else None

    with FakeServer(say_back, faults=once) as server:
        ran = run(server, [Echo("a")], journal, timeout_s=1.0)
    assert ran.results == [("a", "re: a")]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_connection_that_ends_after_the_request_was_sent_uses_up_an_attempt(journal, transport):
    how = {"max_attempts": 3, "transport": transport, "longest_s": 2.0}
    with FakeServer(say_back, faults=lambda *_: Fault("drop")) as server:
        ran = run(server, [Echo("a")], journal, **how)
    assert ran.results == [("a", "connection")]
    assert len(server.requests) == 3 == info(journal).unconfirmed
    # One that is refused was never sent.
    ran = run(
        server, [Echo("b")], journal, **how, error=(EndpointUnreachableError, "no connection")
    )
    assert ran.totals.unconfirmed == 0


def test_attempts_run_out_for_faults_but_not_for_rate_limits(journal):
    with FakeServer(say_back, faults=lambda *_: status(500)) as server:
        ran = run(server, [Echo("a")], journal, max_attempts=3)
        assert ran.results == [("a", "server_error")]
        assert len(server.requests) == 3
    limited = lambda _request, seen, _index: status(429) if seen < 20 else None  # noqa: E731
    with FakeServer(say_back, faults=limited) as server:
        ran = run(server, [Echo("b")], journal, max_attempts=3)
    assert ran.results == [("b", "re: b")]
    assert ran.totals.rate_limited == 20
    assert ran.troubles == ["status 429"] * 20
    assert ran.totals.trouble == ""


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(400, "maximum context length is 4096 tokens"), "too_long"),
        (status(400, "x", error_code="context_length_exceeded"), "too_long"),
        (status(413), "too_long"),
        (status(400, "flagged", error_code="content_filter"), "content_filter"),
    ],
)
def test_faults_of_the_request_are_the_jobs_business(journal, fault, kind):
    with FakeServer(say_back, faults=lambda *_: fault) as server:
        ran = run(server, [Echo("a")], journal)
    assert ran.results == [("a", kind)]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        status(401, "bad key"),
        status(403, "not in your country"),
        status(404, "no such model"),
        status(402, "no balance"),
        status(429, "You exceeded your current quota", error_code="insufficient_quota"),
    ],
)
def test_permanent_errors_stop_the_run_with_the_servers_words(journal, fault):
    with FakeServer(say_back) as server:
        server.faults = lambda _request, _seen, index: fault if index >= 10 else None
        words = fault.body["error"]["message"]
        ran = run(
            server,
            (Echo(f"w{i}") for i in range(500)),
            journal,
            error=(EndpointRejectedError, words),
        )
        assert len(server.requests) < 10 + 2 * 16
        # What was received is kept: the next run does not ask for it again.
        kept, asked = len(ran.results), len(server.requests)
        server.faults = None
        again = run(server, [Echo(f"w{i}") for i in range(500)], journal)
    assert len(again.results) == 500
    assert again.totals.from_journal >= kept
    assert len(server.requests) == asked + again.totals.requests
    assert all(n == 1 for n in server.served.values())


@pytest.mark.parametrize("words", ["unsupported parameter", "cannot parse this"])
def test_one_bad_request_is_given_up_but_twenty_in_a_row_stop_the_run(journal, words):
    jobs = [Echo(f"w{i}") for i in range(100)]

    def only(*bad):
        refused = {f"w{i}" for i in bad}
        return lambda request, _seen, _index: (
            status(400, words) if request["messages"][0]["content"] in refused else None
        )

    with FakeServer(say_back, faults=only(50, 51)) as server:
        ran = run(server, jobs, journal, concurrency=4)
        assert sum(answer == "bad_request" for _, answer in ran.results) == 2
        server.faults = only(*range(200))
        more = [Echo(f"w{i}") for i in range(200)]
        stopped = run(server, more, journal, concurrency=4, error=(EndpointRejectedError, words))
    assert sum(answer == "bad_request" for _, answer in stopped.results) < 20


def test_a_stop_does_not_wait_for_backoffs(journal):
    def fault(request, _seen, _index):
        return status(401, "bad key") if request["messages"][0]["content"] == "b" else status(500)

    with FakeServer(say_back, faults=fault) as server:
        run(
            server,
            [Echo("a"), Echo("b")],
            journal,
            sleep=lambda _: asyncio.Event().wait(),
            error=(EndpointRejectedError, "bad key"),
        )


def test_a_bug_in_a_job_is_raised_and_loses_no_reply(journal):
    class Buggy(Echo):
        def reduce(self, outcome):
            raise ZeroDivisionError("bug")

    with FakeServer(say_back) as server:
        run(server, [Buggy("a"), Echo("b")], journal, error=(ZeroDivisionError, "bug"))
        served = server.served.total()
        run(server, [Echo("a"), Echo("b")], journal)
        assert server.served.total() == 2 >= served


def test_stopping_finishes_what_is_in_flight_and_begins_nothing(journal):
    async def stop_it(_running, stop):
        while server.in_flight < 2:
            await asyncio.sleep(0.001)
        stop.set()
        await asyncio.sleep(0)
        server.release.set()

    jobs = [Echo(f"w{i}") for i in range(50)]
    with FakeServer(say_back, faults=lambda *_: Fault("slow")) as server:
        ran = run(server, jobs, journal, concurrency=2, during=stop_it, error=(Drained, ""))
        assert len(server.requests) == 2 == len(ran.results)
    assert (info(journal).replies, info(journal).unconfirmed) == (2, 0)


def test_draining_has_an_end(journal):
    async def stop_it(_running, stop):
        while server.in_flight < 2:
            await asyncio.sleep(0.001)
        stop.set()

    with FakeServer(say_back, faults=lambda *_: Fault("hang")) as server:
        ran = run(
            server,
            [Echo("a"), Echo("b")],
            journal,
            during=stop_it,
            drain_s=0.05,
            error=(Drained, ""),
        )
    assert ran.results == []
    assert info(journal).unconfirmed == 2


def test_cancelling_leaves_what_is_in_flight_in_doubt(journal):
    async def cancel(running, _stop):
        while server.in_flight < 2:
            await asyncio.sleep(0.001)
        running.cancel()

    with FakeServer(say_back, faults=lambda *_: Fault("hang")) as server:
        run(
            server,
            [Echo("a"), Echo("b")],
            journal,
            during=cancel,
            error=(asyncio.CancelledError, ""),
        )
    assert info(journal).unconfirmed == 2


def test_requests_a_minute_are_paced(journal):
    with FakeServer(say_back) as server:
        began = time.monotonic()
        run(server, [Echo(f"w{i}") for i in range(25)], journal, requests_per_minute=600)
        took = time.monotonic() - began
    # Ten a second: no burst of a whole minute is let through.
    assert took >= 2.0
    assert len(server.requests) == 25


def check(url, key="k", model="test-model"):
    asyncio.run(preflight(url, key, model, timeout_s=5))


def test_what_may_have_been_billed_stays_in_doubt(journal):
    once = [Fault("hang"), status(429), status(503)]
    with FakeServer(say_back, faults=lambda _r, seen, _i: once[seen] if seen < 3 else None) as srv:
        run(srv, [Echo("a")], journal, timeout_s=1.0)
    assert (info(journal).replies, info(journal).unconfirmed) == (1, 1)


def test_an_unreadable_reply_is_journaled_and_bought_again(journal):
    with FakeServer(say_back, faults=lambda *_: Fault("truncate")) as server:
        first = run(server, [Echo("a")], journal, max_attempts=2)
        assert first.results == [("a", "unreadable")]
        assert (info(journal).replies, info(journal).unreadable) == (0, 2)
        server.faults = None
        again = run(server, [Echo("a")], journal)
        assert again.results == [("a", "re: a")]


def test_a_server_that_stays_away_stops_the_run_and_fails_no_job(journal):
    with FakeServer(say_back) as server:
        pass
    ran = run(
        server,
        [Echo("a")],
        journal,
        longest_s=0.0,
        error=(EndpointUnreachableError, "no connection"),
    )
    assert ran.results == []


def test_preflight_never_shows_a_key_that_cannot_be_sent():
    with FakeServer(say_back) as server:
        for key in ("sk-secret\nx", "sk-sécret"):
            with pytest.raises(AutointerpError, match="line break") as caught:
                check(server.url, key=key)
            assert "cret" not in str(caught.value)


def test_preflight_knows_a_page_from_a_chat_completion():
    page = lambda *_: Fault("raw", body=b"<html>welcome</html>")  # noqa: E731
    with FakeServer(say_back, faults=page) as server:
        client = ChatClient(server.url, "k", timeout_s=5, max_connections=1)
        with pytest.raises(EndpointError, match="check the base URL"):
            asyncio.run(_probe(client, "test-model", []))


def test_preflight_says_what_is_wrong():
    with FakeServer(say_back, api_key="k") as server:
        check(server.url)
        assert not server.requests
        with pytest.raises(
            EndpointRejectedError, match="rejects the key: Incorrect API key provided"
        ):
            check(server.url, key="other")
        with pytest.raises(
            AutointerpError, match=r"The model `nope` does not exist.*offers test-model"
        ):
            check(server.url, model="nope")
        url = server.url
    with pytest.raises(EndpointUnreachableError, match=f"endpoint {url} cannot be reached"):
        check(url)
    with pytest.raises(EndpointUnreachableError, match="cannot be reached"):
        check("not a url")


def test_prices_are_given_or_known_or_unknown():
    assert price_of("gpt-4o-mini") == price_of("openai/gpt-4o-mini") is not None
    assert price_of("nobody-knows") is None


def test_a_bad_request_stops_the_run_unless_others_were_taken(journal):
    bad = status(400, "cannot parse this")

    def only_b(request, _seen, _index):
        return bad if request["messages"][0]["content"] == "b" else None

    with FakeServer(say_back, faults=only_b) as server:
        run(
            server,
            [Echo("b"), Echo("a")],
            journal,
            concurrency=1,
            error=(EndpointRejectedError, "parse"),
        )
        ran = run(server, [Echo("a"), Echo("b")], journal, concurrency=1)
    assert sorted(ran.results) == [("a", "re: a"), ("b", "bad_request")]
