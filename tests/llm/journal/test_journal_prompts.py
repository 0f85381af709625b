"""What was asked is kept beside the replies, and found by what it is about."""

import asyncio
import json
import sqlite3
import time
import zlib
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import AutointerpError
from autointerp.llm.journal import journal_file, journal_prompts
from autointerp.llm.journal.journal import Journal, Received
from autointerp.llm.journal.journal_file import exchanges, export, prune
from autointerp.llm.journal.journal_prompts import PromptRows, is_kept, prompts_about, read_messages
from autointerp.llm.pool import Drained
from autointerp.llm.wire.reply import Usage
from autointerp.llm.wire.request import ChatRequest
from tests.llm.journal.test_journal import put
from tests.llm.test_batch import fill
from tests.support.batch_server import BatchServer
from tests.support.echo import Echo, run, say_back
from tests.support.fake_server import FakeServer, Fault

SYSTEM = {"role": "system", "content": "You label features."}


def asked(user, *about):
    messages = (SYSTEM, {"role": "user", "content": user})
    return ChatRequest("m", messages, 10, about=about)


def body(text):
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def received(key, text, *about, **more):
    request = asked(f"ask {key}", *about)
    return Received(key, "m", body(text), Usage(10, 5, 2), 0.5, asked=request, **more)


def rows_of(path, table):
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def test_a_feature_s_exchanges_are_found_while_a_run_writes(path):
    journal = Journal.open(path)
    put(journal, replace(received("b", "", "label:1"), raw=b"<html>\xff", readable=False))
    put(journal, received("a", "one", "label:1", "label:2"), received("c", "far", "label:12"))
    put(journal, received("n", "null", "detection:1:of:40"), received("d", "d", "detection:12"))
    found = exchanges(path, ["label:1", "detection:1"])
    assert [(e.about, e.text, e.readable) for e in found] == [
        ("label:1", None, False),
        ("label:1", "one", True),
        ("detection:1:of:40", "null", True),
    ]
    assert found[0].reply == "<html>\N{REPLACEMENT CHARACTER}"
    first = found[1]
    assert first.messages == [SYSTEM, {"role": "user", "content": "ask a"}]
    assert first.reply.encode() == body("one")
    assert (first.prompt_tokens, first.completion_tokens, first.cached_tokens) == (10, 5, 2)
    assert (first.model, first.cost_usd) == ("m", 0.5)
    assert exchanges(path, ["lab", "label:", "label:3", "detection:12:of"]) == []
    assert len(rows_of(path, "texts")) == 1
    journal.close()
    assert len(exchanges(path, ["label:1", "detection:1"])) == 3
    entries = {entry["key"]: entry for entry in export(path)}
    assert entries["a"]["about"] == ["label:1", "label:2"]
    assert entries["a"]["messages"] == first.messages


texts = st.text() | st.sampled_from(["\ud800 half", "\0", "𝕏 <b>", "é" * 3000])


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), max_size=4))
def test_messages_come_back_as_they_were_sent(messages):
    sent = tuple({"role": role, "content": content} for role, content in messages)
    connection = sqlite3.connect(":memory:")
    connection.executescript(journal_prompts.SCHEMA)
    rows = PromptRows()
    rows.add("k", ChatRequest("m", sent, 1, about=("label:1",)))
    rows.insert(connection)
    ((about, key), prompt), *others = prompts_about(connection, "label:1").items()
    assert (about, key, others) == ("label:1", "k", [])
    # As in a request's body, what UTF-8 cannot hold is a question mark.
    as_sent = [m | {"content": m["content"].encode("utf-8", "replace").decode()} for m in sent]
    assert read_messages(connection, prompt) == as_sent
    assert is_kept(connection, "k", ["label:1"])
    assert not is_kept(connection, "k", ["label:1", "label:2"])
    assert not is_kept(connection, "other", ["label:1"])
    connection.close()


def earlier(path):
    """A journal as the version before prompts were kept makes it."""
    connection = sqlite3.connect(path)
    connection.executescript(journal_file._SCHEMA)
    connection.execute(f"PRAGMA user_version={journal_file.VERSION}")
    return connection


def test_a_journal_from_before_opens_and_works(path):
    old = earlier(path)
    row = ("k", "m", zlib.compress(body("old")), 1.0, 1, 2, 0, None)
    old.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    old.commit()
    old.close()
    assert exchanges(path, ["label:1"]) == []
    ((entry),) = export(path)
    assert (entry["about"], entry["messages"]) == ([], [])
    journal = Journal.open(path)
    assert journal.get("k") == (body("old"), None)
    # A run that goes on renders the same request, and finds the reply.
    asyncio.run(journal.note("k", asked("ask", "label:1")))
    asyncio.run(journal.note("k", asked("ask", "label:1")))
    journal.close()
    (found,) = exchanges(path, ["label:1"])
    assert (found.text, found.messages[1]["content"]) == ("old", "ask")
    assert len(rows_of(path, "prompts")) == 1


def test_an_earlier_version_goes_on_with_a_journal_of_this_one(path):
    journal = Journal.open(path)
    put(journal, received("a", "one", "label:1"))
    journal.close()
    old = earlier(path)
    row = ("b", "m", zlib.compress(body("two")), 1.0, 1, 2, 0, None)
    old.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    # Its prune does not know of prompts.
    old.execute("DELETE FROM replies WHERE key = 'a'")
    old.commit()
    old.close()
    assert exchanges(path, ["label:1"]) == []
    assert [entry["key"] for entry in export(path)] == ["b"]
    assert prune(path, 0.0) == 0
    assert [rows_of(path, name) for name in ("prompts", "about", "texts")] == [[], [], []]


def test_a_reply_and_its_prompt_are_kept_together_or_not_at_all(path):
    journal = Journal.open(path)
    sqlite3.connect(path).execute("DROP TABLE about").connection.close()
    with pytest.raises(AutointerpError, match="no such table"):
        put(journal, received("a", "one", "label:1"))
    assert journal.get("a") is None
    journal.close()


def test_prune_forgets_prompts_that_no_reply_needs(path):
    journal = Journal.open(path)
    put(journal, received("a", "old", "label:1"))
    put(journal, replace(received("u", "", "label:1"), raw=b"garbled", readable=False))
    between = time.time()
    put(journal, received("b", "new", "label:1"))
    journal.note_all([("c", asked("pending", "label:1"))])
    batch = ("name", "id", "m", 1, 0.0, "pending", 0.0)
    journal.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", *batch)
    assert prune(path, between) == 1
    # What a batch has not answered yet is needed.
    assert len(rows_of(path, "prompts")) == 4
    assert [e.text for e in exchanges(path, ["label:1"])] == [None, "new"]
    journal.execute("UPDATE batches SET state = 'completed'")
    assert prune(path, between) == 0
    assert sorted(row[1] for row in rows_of(path, "prompts")) == ["b", "u"]
    assert len(rows_of(path, "about")) == 2
    assert len(rows_of(path, "texts")) == 1
    assert [e.text for e in exchanges(path, ["label:1"])] == [None, "new"]
    assert prune(path, time.time()) == 1
    journal.close()
    assert [row[1] for row in rows_of(path, "prompts")] == ["u"]


@dataclass(frozen=True)
class About(Echo):
    about: tuple[str, ...] = ()

    def request(self):
        return replace(super().request(), about=self.about)


def test_one_reply_is_found_by_all_that_asked_for_it(path):
    """One is sent, one waits for it on its way, one finds it in the journal."""
    jobs = [About("same", about=("detection:1:of:2",)), About("same", about=("detection:2",))]

    def slow(request, times, n):
        return Fault("slow")

    with FakeServer(say_back, faults=slow) as server:

        async def release(running, stop):
            while not server.requests:
                await asyncio.sleep(0.001)
            server.release.set()

        run(server, jobs, path, during=release)
        run(server, [About("same", about=("detection:3",)), *jobs], path)
        assert len(server.requests) == 1
    for about in ("detection:1", "detection:2", "detection:3"):
        (found,) = exchanges(path, [about])
        assert found.text == "re: same"
        assert found.messages == [{"role": "user", "content": "same"}]


def test_a_batch_that_another_process_collects_has_its_prompts(path):
    jobs = [About(f"w{i}", about=(f"label:{i}",)) for i in range(3)]
    with BatchServer(say_back, polls=3) as server:
        with pytest.raises(Drained):
            fill(server, jobs, path, stop_at="in_progress")
        fill(server, [], path)
    for i in range(3):
        (found,) = exchanges(path, [f"label:{i}"])
        assert (found.text, found.messages[0]["content"]) == (f"re: w{i}", f"w{i}")
