import asyncio
import json
import sqlite3

import pytest

from autointerp.errors import AutointerpError
from autointerp.llm.batches import BatchRun, BatchSettings
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.journal_file import info
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.llm.pool import Drained
from autointerp.llm.wire.client import ChatClient
from autointerp.llm.wire.dialect import Dialect
from tests.support.batch_server import BatchServer
from tests.support.echo import PRICE, Echo, run, say_back
from tests.support.fake_server import FakeServer

JOBS = [Echo(f"w{i}", then=1) for i in range(10)]


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.sqlite"


def fill(server, jobs, path, *, dialect=None, stop_at=None, budget_usd=None, most_requests=50_000):
    """Run batches without waiting between polls; the events it told of."""
    events = []

    async def main():
        store = Journal.open(path)
        client = ChatClient(server.url, "k", timeout_s=20, max_connections=4)
        stop = asyncio.Event()

        async def no_sleep(_):
            if stop_at is not None and stop_at in " ".join(events):
                stop.set()

        settings = BatchSettings(PRICE, budget_usd, most_requests)
        try:
            await BatchRun(
                client, dialect or Dialect(), store, settings, events.append, stop, no_sleep
            ).fill(lambda: iter(jobs))
        finally:
            await client.close()
            store.close()

    asyncio.run(main())
    return events


def test_batches_fill_the_journal_at_half_the_price(journal):
    with BatchServer(say_back, polls=2) as server:
        fill(server, JOBS, journal)
        # A round for the jobs, and one for their follow-ups.
        assert len(server.batches) == 2
        ran = run(server, JOBS, journal, dialect=Dialect())
        assert not server.online
    assert dict(ran.results) == {w: f"re: {w}" for i in range(10) for w in (f"w{i}", f"w{i}+")}
    assert info(journal).cost_usd == pytest.approx(20 * (100 * 1.0 + 10 * 2.0) / 1e6 / 2)
    line = json.loads(server.files["file-0"].splitlines()[0])
    assert line["url"] == "/v1/chat/completions"
    assert line["body"]["messages"] == [{"role": "user", "content": "w0"}]


def test_what_a_reply_does_not_say_it_used_counts_at_its_worst(journal):
    with BatchServer(say_back, usage={}) as server:
        fill(server, [Echo("a"), Echo("b")], journal)
    assert info(journal).cost_usd > 2 * (100 + 2 * 10) / 1e6 / 2


def test_files_are_split_and_equal_requests_handed_in_once(journal):
    jobs = [Echo(f"w{i % 7}") for i in range(14)]
    with BatchServer(say_back) as server:
        fill(server, jobs, journal, most_requests=3)
        assert len(server.batches) == 3
        assert server.answered.total() == 7


def test_what_a_batch_cannot_answer_is_asked_online(journal):
    def spoil(body):
        failed = body["messages"][0]["content"] in ("w3", "w4")
        return (500, {"error": {"message": "oops"}}) if failed else None

    with BatchServer(say_back, spoil=spoil) as server:
        fill(server, [Echo(f"w{i}") for i in range(10)], journal)
        assert len(server.batches) == 2
        ran = run(server, [Echo(f"w{i}") for i in range(10)], journal, dialect=Dialect())
        assert len(server.online) == 2
    assert len(ran.results) == 10


def test_what_an_expired_batch_had_done_is_kept(journal):
    with BatchServer(say_back, ending="expired") as server:
        events = fill(server, [Echo(f"w{i}") for i in range(10)], journal)
    assert info(journal).replies == 5 + 3
    assert max(server.answered.values()) == 1
    assert any("expired" in event for event in events)


def test_a_refused_batch_stops_with_the_servers_words(journal):
    with (
        BatchServer(say_back, ending="failed") as server,
        pytest.raises(AutointerpError, match="failed: line 1 is no request"),
    ):
        fill(server, JOBS, journal)


def test_a_pending_batch_survives_the_process(journal):
    with BatchServer(say_back, polls=3) as server:
        with pytest.raises(Drained):
            fill(server, JOBS, journal, stop_at="in_progress")
        assert len(server.batches) == 1
        # Until it has ended it counts at its worst.
        store = Journal.open(journal)
        assert store.spent_usd() > 0
        store.close()
        fill(server, JOBS, journal)
        assert len(server.batches) == 2
    assert max(server.answered.values()) == 1
    assert info(journal).replies == 20


def test_a_batch_made_just_before_a_crash_is_found_again(journal):
    with BatchServer(say_back, polls=2) as server:
        with pytest.raises(Drained):
            fill(server, JOBS, journal, stop_at="in_progress")
        raw = sqlite3.connect(journal)
        raw.execute("UPDATE batches SET id = NULL, state = 'begun'")
        raw.execute("INSERT INTO batches VALUES ('never', NULL, 'm', 1, 0.1, 'begun', 0)")
        raw.commit()
        raw.close()
        fill(server, JOBS, journal)
    assert max(server.answered.values()) == 1
    assert info(journal).replies == 20


def test_a_parameter_that_is_refused_is_left_out_of_the_next_batch(journal):
    def spoil(body):
        if body["response_format"]["type"] == "json_object":
            return None
        return 400, {"error": {"message": "response_format json_schema is not supported"}}

    with BatchServer(say_back, spoil=spoil) as server:
        fill(server, [Echo("a"), Echo("b")], journal)
        ran = run(server, [Echo("a"), Echo("b")], journal, dialect=Dialect())
        assert not server.online
    assert len(ran.results) == 2


def test_a_budget_bounds_what_is_handed_in(journal):
    # The worst of one request is about 200 bytes and 10 tokens, at half the price.
    with BatchServer(say_back) as server:
        fill(server, [Echo(f"w{i}") for i in range(100)], journal, budget_usd=0.001)
        first = len(server.files["file-0"].splitlines())
        assert 3 <= first <= 12
    assert info(journal).cost_usd <= 0.001


def test_an_endpoint_without_batches_says_so(journal):
    with FakeServer(say_back) as server, pytest.raises(AutointerpError, match="no route /v1/files"):
        fill(server, JOBS, journal)


def test_a_bad_moment_does_not_end_a_wait(journal):
    with BatchServer(say_back, polls=3) as server:
        server.bad_looks = 2
        fill(server, JOBS, journal)
    assert max(server.answered.values()) == 1
    assert info(journal).replies == 20


def test_two_batches_that_refuse_a_parameter_lose_it_once(journal):
    def spoil(body):
        if body.get("response_format", {}).get("type") != "json_schema":
            return None
        return 400, {"error": {"message": "response_format json_schema is not supported"}}

    with BatchServer(say_back, spoil=spoil) as server:
        fill(server, [Echo(f"w{i}") for i in range(4)], journal, most_requests=2)
        sent = [json.loads(f.splitlines()[0]) for f in server.files.values() if b'"body": {"m' in f]
    assert sent[-1]["body"]["response_format"] == {"type": "json_object"}


def test_replies_in_an_earlier_dialect_are_not_asked_for_again(journal):
    jobs = [Echo(f"w{i}") for i in range(5)]
    with BatchServer(say_back) as server:
        run(server, jobs, journal, dialect=Dialect())
        store = Journal.open(journal)
        reply_cache = ReplyCache(store, server.url, Dialect())
        reply_cache.drop("test-model", ("json_schema",))
        # The doctor found that the endpoint has learned it, but not temperatures.
        reply_cache.drop("test-model", ("temperature",))
        store.close()
        fill(server, jobs, journal)
        again = run(server, jobs, journal, dialect=Dialect())
        assert not server.batches
        assert len(server.online) == 5
    assert again.totals.from_journal == 5


def test_nothing_is_handed_in_once_asked_to_stop(journal):
    async def main():
        store = Journal.open(journal)
        client = ChatClient(server.url, "k", timeout_s=20, max_connections=4)
        stop = asyncio.Event()
        stop.set()
        filling = BatchRun(
            client, Dialect(), store, BatchSettings(None), print, stop, asyncio.sleep
        )
        with pytest.raises(Drained):
            await filling.fill(lambda: iter(JOBS))
        await client.close()
        store.close()

    with BatchServer(say_back) as server:
        asyncio.run(main())
        assert not server.batches
