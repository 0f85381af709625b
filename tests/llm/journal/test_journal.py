import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autointerp.errors import AutointerpError
from autointerp.llm.journal import journal_file
from autointerp.llm.journal.in_flight import InFlightLog, Send
from autointerp.llm.journal.journal import Journal, Received
from autointerp.llm.journal.journal_file import export, info, prune
from autointerp.llm.wire.reply import Usage

NOBODY = 65534
USAGE = Usage(10, 5, 2)


def received(i, **more):
    return Received(f"k{i}", "m", b'{"reply": %d}' % i, USAGE, 0.5, **more)


def put(journal, *replies):
    async def all_at_once():
        await asyncio.gather(*(journal.put(reply) for reply in replies))

    asyncio.run(all_at_once())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def test_what_was_put_is_found_and_counted(path):
    journal = Journal.open(path)
    put(journal, *(received(i) for i in range(600)), received(7, readable=False))
    assert all(journal.get(f"k{i}") == (b'{"reply": %d}' % i, 0.5) for i in range(600))
    assert journal.get("other") is None
    assert journal.unreadable_usage("k7") == (USAGE, 0.5)
    assert journal.spent_usd() == 601 * 0.5
    journal.close()
    found = info(path)
    assert (found.replies, found.unreadable, found.prompt_tokens) == (600, 1, 6010)
    assert found.models == (("m", 600),)


def test_a_reply_that_is_in_a_chain_twice_is_counted_once(path):
    journal = Journal.open(path)
    put(journal, received(1), received(2))
    journal.mark_unreadable([("k1", "k2", "k2"), ("k1",)])
    assert journal.get("k1") is journal.get("k2") is None
    assert journal.unreadable_usage("k1") == (Usage(20, 10, 4), 1.0)
    journal.close()
    assert (info(path).replies, info(path).unreadable) == (0, 2)


def test_it_keeps_what_was_put_through_kill_9(path):
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from autointerp.llm.journal.journal import Journal, Received\n"
        "from autointerp.llm.wire.reply import Usage\n"
        "from autointerp.llm.journal.in_flight import Send\n"
        "async def main():\n"
        "    journal = Journal.open(Path(sys.argv[1]))\n"
        "    for i in range(20):\n"
        "        journal.sending(Send(f'k{i}', 0.25))\n"
        "        await journal.put(Received(f'k{i}', 'm', b'reply %d' % i, Usage(), None))\n"
        "        if i < 19: journal.settle(Send(f'k{i}', 0.25), answered=True)\n"
        "    journal.sending(Send('doubtful', 0.25))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    journal = Journal.open(path)
    # The last reply was committed, though the process died before it could note that.
    assert len(journal.take_up_unconfirmed()) == 1
    assert [journal.get(f"k{i}") for i in range(20)] == [(b"reply %d" % i, None) for i in range(20)]
    assert journal.get("doubtful") is None
    assert journal.spent_usd() == 0.25
    assert journal.take_up_unconfirmed() == []
    journal.close()
    assert (info(path).unconfirmed, info(path).worst_usd) == (1, 0.25)


def test_a_send_that_timed_out_is_in_doubt_also_when_a_later_one_is_answered(path):
    journal = Journal.open(path)
    send = Send("k1", 1.0)
    journal.sending(send)
    journal.sending(send)
    put(journal, received(1))
    journal.settle(send, answered=True)
    journal.close()
    journal = Journal.open(path)
    assert journal.take_up_unconfirmed() == [send]
    journal.close()


def test_one_that_cannot_be_used_is_said_and_left_alone(path):
    path.write_bytes(b"no database " * 100)
    with pytest.raises(AutointerpError, match=r"is damaged .*autointerp repair"):
        Journal.open(path)
    assert path.read_bytes() == b"no database " * 100
    with pytest.raises(AutointerpError, match="cannot be used"):
        Journal.open(path.parent / "no folder" / "journal.sqlite")
    with pytest.raises(AutointerpError, match="no such file"):
        info(path.parent / "none.sqlite")


@pytest.mark.parametrize("pages", range(1, 14))
def test_a_disk_that_fills_up_while_it_is_made_leaves_none_or_a_whole_one(path, monkeypatch, pages):
    whole = journal_file.connect

    def small(path):
        connection = whole(path)
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    with monkeypatch.context() as full:
        full.setattr(journal_file, "connect", small)
        full.setattr("autointerp.llm.journal.journal.connect", small)
        try:
            Journal.open(path).close()
        except AutointerpError as error:
            if "the disk is full" not in str(error):
                raise
    # Once there is room again it is as if nothing had happened.
    journal = Journal.open(path)
    put(journal, received(1))
    assert journal.get("k1") is not None
    journal.close()


def test_one_that_an_earlier_program_did_not_finish_making_is_finished(path):
    begun = sqlite3.connect(path)
    begun.executescript(journal_file._SCHEMA)
    begun.close()
    journal = Journal.open(path)
    put(journal, received(1))
    journal.close()
    assert info(path).replies == 1


def test_one_of_another_version_is_refused(path):
    old = sqlite3.connect(path)
    old.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, reply BLOB)")
    old.close()
    before = path.read_bytes()
    with pytest.raises(AutointerpError, match="another version"):
        Journal.open(path)
    assert path.read_bytes()[100:] == before[100:]


def test_a_locked_one_is_said(path, monkeypatch):
    monkeypatch.setattr("autointerp.llm.journal.journal_file.BUSY_S", 0.05)
    journal = Journal.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AutointerpError, match="in use by another program"):
        put(journal, received(1))
    other.execute("ROLLBACK")
    put(journal, received(1))
    assert journal.get("k1") is not None
    journal.close()


def test_a_full_disk_is_said_and_loses_nothing_kept(path):
    journal = Journal.open(path)
    put(journal, received(1))
    pages = sqlite3.connect(path).execute("PRAGMA page_count").fetchone()[0]
    journal.close()
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from autointerp.llm.journal import journal as module\n"
        "from autointerp.llm.wire.reply import Usage\n"
        "whole = module.connect\n"
        "def small(path):\n"
        "    connection = whole(path)\n"
        f"    connection.execute('PRAGMA max_page_count={pages + 2}')\n"
        "    return connection\n"
        "module.connect = small\n"
        "async def main():\n"
        "    journal = module.Journal.open(Path(sys.argv[1]))\n"
        "    import os\n"
        "    for i in range(100):\n"
        "        raw = os.urandom(4000)\n"
        "        await journal.put(module.Received(f'x{i}', 'm', raw, Usage(), None))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], check=False, capture_output=True, text=True
    )
    assert "cannot be written: the disk is full. What it holds is safe" in done.stderr
    journal = Journal.open(path)
    assert journal.get("k1") == (b'{"reply": 1}', 0.5)
    journal.close()


def as_nobody(act):
    """What `act` says, in a process that may not write what belongs to others."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            if os.geteuid() == 0:  # root may write anywhere
                os.setuid(NOBODY)
            act()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writes, said.encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as told:
        said = told.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.parametrize("made_before", [False, True])
def test_a_folder_that_is_read_only_is_said(path, monkeypatch, made_before):
    if made_before:
        Journal.open(path).close()
        path.chmod(0o444)
    kept = path.read_bytes() if made_before else None
    path.parent.chmod(0o555)
    # By its name alone: the folders above it may be closed to others as well.
    monkeypatch.chdir(path.parent)
    said = as_nobody(lambda: Journal.open(Path(path.name)))
    path.parent.chmod(0o755)
    assert said.startswith(f"InputError: journal {path.name} cannot be")
    assert (path.read_bytes() if path.exists() else None) == kept


def test_a_flipped_byte_in_a_reply_is_never_silently_wrong(path):
    journal = Journal.open(path)
    put(journal, received(1))
    journal.close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE replies SET reply = x'00112233'")
    raw.commit()
    raw.close()
    journal = Journal.open(path)
    assert journal.get("k1") is None
    journal.close()
    assert next(iter(export(path)))["reply"] is None


def test_replies_are_exported_and_pruned_but_their_cost_is_kept(path):
    journal = Journal.open(path)
    put(journal, received(1))
    between = time.time()
    put(journal, received(2))
    assert [json.loads(r["reply"])["reply"] for r in export(path)] == [1, 2]
    assert prune(path, between) == 1
    assert journal.get("k1") is None
    assert journal.get("k2") is not None
    assert journal.spent_usd() == 1.0
    journal.close()
    assert info(path).cost_usd == 1.0


def test_commits_are_shared(path):
    """A thousand replies that come at once take a few syncs, not a thousand."""
    journal = Journal.open(path)
    commits = []
    whole = sqlite3.connect(path)
    put(journal, *(received(i) for i in range(1000)))
    commits = whole.execute("SELECT COUNT(DISTINCT received_at) FROM replies").fetchone()[0]
    assert whole.execute("SELECT COUNT(*) FROM replies").fetchone()[0] == 1000
    assert commits >= 1
    whole.close()
    journal.close()


def test_settled_sends_leave_the_file_small(tmp_path, monkeypatch):
    monkeypatch.setattr("autointerp.llm.journal.in_flight._MAX_BYTES", 2000)
    log = InFlightLog(tmp_path / "x.sends")
    log.begin(Send("stays", 0.5))
    for i in range(1000):
        log.begin(Send(f"k{i}", 0.1))
        log.settle(Send(f"k{i}", 0.1), answered=True)
    assert (tmp_path / "x.sends").stat().st_size < 2100
    log.close()
    assert InFlightLog(tmp_path / "x.sends").unsettled() == [Send("stays", 0.5)]


def test_a_send_cut_off_by_a_full_disk_tells_nothing(tmp_path):
    path = tmp_path / "x.sends"
    path.write_bytes(b"+ a 0.5\n+ b 0.25\n= a 0.5\n- b 0.")
    log = InFlightLog(path)
    assert log.unsettled() == [Send("b", 0.25)]
    # Nor does it spoil what is written after it.
    log.begin(Send("c", 0.125))
    log.close()
    assert InFlightLog(path).unsettled() == [Send("b", 0.25), Send("c", 0.125)]
