"""Replies in which nothing can be read: when the pool stops, and what a later run asks anew."""

import sqlite3
from dataclasses import dataclass, replace

import pytest

from autointerp.errors import UnreadableRepliesError
from autointerp.llm.pool import Step
from autointerp.llm.unread import MAX_UNREAD, likely_cause
from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from tests.support.echo import Echo, run, say_back
from tests.support.fake_server import FakeServer, Fault


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.sqlite"


@dataclass(frozen=True)
class Reader(Echo):
    """Reads what begins with `re:`; asks once more, in vain it gives up."""

    vain: tuple[str, ...] = ()

    def reduce(self, outcome):
        if isinstance(outcome, CallFailure):
            return Step(results=[(self.word, outcome.kind)])
        if outcome.text.startswith("re:"):
            return Step(results=[(self.word, outcome.text)])
        vain = (*self.vain, outcome.key)
        if self.attempt:
            return Step(results=[(self.word, "failed")], unread=True, unreadable=[vain])
        return Step(follow_ups=[replace(self, attempt=1, vain=vain)], unread=True)


def paid(journal):
    """Prompt tokens of all replies in the journal."""
    of = "(SELECT TOTAL(prompt_tokens) FROM {})"
    statement = f"SELECT {of.format('replies')} + {of.format('spoiled')}"
    return sqlite3.connect(journal).execute(statement).fetchone()[0]


def readers(n):
    return [Reader(f"w{i}") for i in range(n)]


def broken_for(*words):
    return lambda request: (
        "sorry" if request["messages"][-1]["content"] in words else say_back(request)
    )


def test_a_run_in_which_nothing_can_be_read_stops_and_is_asked_anew(journal):
    with FakeServer(lambda _: "As an AI I cannot") as server:
        stopped = run(
            server, readers(500), journal, concurrency=4, error=(UnreadableRepliesError, "AI")
        )
        sent = len(server.requests)
        assert MAX_UNREAD <= sent < 2 * MAX_UNREAD
        assert not any(answer.startswith("re:") for _, answer in stopped.results)
        server.respond = say_back
        again = run(server, readers(500), journal, concurrency=4)
    assert len(server.requests) == sent + 500
    assert sorted(again.results) == sorted((f"w{i}", f"re: w{i}") for i in range(500))
    assert paid(journal) == sum(len(body) // 4 for body in server.bodies)


def test_an_endpoint_that_breaks_midway_stops_the_run_and_what_was_read_is_kept(journal):
    with FakeServer(say_back) as server:
        server.on_served = lambda n: n >= 60 and setattr(server, "respond", lambda _: "")
        run(server, readers(500), journal, concurrency=4, error=(UnreadableRepliesError, "empty"))
        assert len(server.requests) < 60 + 3 * MAX_UNREAD
        server.on_served, server.respond = None, say_back
        again = run(server, readers(500), journal, concurrency=4)
    assert again.totals.from_journal >= 60
    assert {answer[:3] for _, answer in again.results} == {"re:"}


def test_a_few_that_cannot_be_read_stop_nothing_and_only_they_are_paid_again(journal):
    hard = [f"w{i}" for i in range(0, 100, 7)]
    with FakeServer(broken_for(*hard)) as server:
        first = run(server, readers(100), journal, concurrency=1)
        assert {word for word, answer in first.results if answer == "failed"} == set(hard)
        sent = len(server.requests)
        assert sent == 100 + len(hard)
        # Still so: each is asked as often as the first time, and no more.
        second = run(server, readers(100), journal, concurrency=1)
        assert sorted(second.results) == sorted(first.results)
        assert len(server.requests) == sent + 2 * len(hard)
        server.respond = say_back
        third = run(server, readers(100), journal)
        assert len(server.requests) == sent + 3 * len(hard)
        assert {answer[:3] for _, answer in third.results} == {"re:"}
        # And once more for nothing.
        assert run(server, readers(100), journal).totals.requests == 0
    billed = sum(len(body) // 4 for body in server.bodies)
    # What the unreadable replies took is part of the bill, and of what the jobs are told.
    assert third.totals.prompt_tokens == paid(journal) == billed


def test_the_last_few_of_a_run_do_not_stop_it_however_often_they_are_asked(journal):
    hard = [f"w{i}" for i in range(96, 100)]
    jobs = [Echo(f"w{i}") for i in range(96)]

    @dataclass(frozen=True)
    class Stubborn(Reader):
        def reduce(self, outcome):
            tries = len(self.vain) + 1
            if tries == 8:
                return Step(results=[(self.word, "failed")], unread=True)
            again = replace(self, attempt=tries, vain=(*self.vain, outcome.key))
            return Step(follow_ups=[again], unread=True)

    with FakeServer(broken_for(*hard)) as server:
        ran = run(server, [*jobs, *(Stubborn(word) for word in hard)], journal, concurrency=1)
    assert [answer for word, answer in ran.results if word in hard] == ["failed"] * 4
    assert len(server.requests) == 96 + 4 * 8


def test_declined_requests_are_not_unreadable_replies(journal):
    with FakeServer(say_back, faults=lambda *_: Fault("refusal")) as server:
        ran = run(server, readers(60), journal)
    assert len(ran.results) == 60


def test_the_likely_cause_fits_what_came():
    def cause(text, finish="stop"):
        return likely_cause(ChatReply(text, finish, False, Usage()))

    causes = [
        cause("", "length"),
        cause(""),
        cause("<think>and so on"),
        cause("The feature is about cats."),
        cause('{"answers": []}'),
    ]
    assert len(set(causes)) == len(causes)
    assert "reasoning" in causes[0]
    assert "--response-format" in causes[3]
    assert "template" in causes[4]
