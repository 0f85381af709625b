"""Collecting in several processes."""

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autointerp.activations import stream
from autointerp.activations.contexts import TextSettings
from autointerp.activations.formats import open_cache
from autointerp.activations.stream import StreamSettings, SubjectStream
from autointerp.activations.subject import load_subject
from autointerp.coders import load_coder
from autointerp.errors import AutointerpError
from autointerp.stages.collect import workers
from autointerp.stages.collect.planning import Part, devices_of, divided, why_one
from tests.coders.test_coder import write_saelens
from tests.support.caches import write_cache
from tests.support.tokenizers import write_subject

FILES = ("windows.parquet", "features.parquet", "corpus.parquet", "vocabulary.parquet")


def assert_same_evidence(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not [f for f in other.iterdir() if "checkpoint" in f.name or "tmp" in f.name]
    assert not multiprocessing.active_children()


@given(
    contexts=st.integers(1, 300),
    cuts=st.sets(st.integers(0, 300), max_size=8),
    parts=st.integers(1, 6),
    batch=st.integers(1, 20),
)
def test_what_is_held_stays_and_the_rest_is_divided(contexts, cuts, parts, batch):
    edges = sorted(c for c in cuts if c <= contexts)
    held = [range(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    found = divided(held, contexts, parts, batch)
    assert [c for part in found for c in part.contexts] == list(range(contexts))
    assert all(part.contexts for part in found)
    taken = {range(p.contexts.start, p.contexts.start + p.held) for p in found if p.held}
    assert taken == set(held)
    todo = [p.contexts[p.held :] for p in found if p.held < len(p.contexts)]
    gaps = len({c for rest in todo for c in rest} - {c + 1 for rest in todo for c in rest})
    assert gaps <= len(todo) <= max(gaps, parts)
    if not held:  # nearly alike, of whole batches but for the last
        assert all(len(rest) == len(todo[0]) for rest in todo[:-1])
        assert len(todo[0]) % batch == 0 or len(todo) == 1
        assert len(todo[-1]) <= len(todo[0])


def test_a_process_that_is_killed_is_named_and_the_same_command_goes_on(
    cli, planted, tmp_path, monkeypatch
):
    small = ["--batch-contexts", "32"]
    assert cli("collect", *planted.flags(tmp_path / "one"), *small)[0] == 0
    flags = [*planted.flags(tmp_path / "cut"), *small]
    started, heard = workers._started, workers._heard

    def stopped(file, place, device, threads, part):
        pipe, process = started(file, place, device, threads, part)
        if part.start > 0:
            os.kill(process.pid, signal.SIGSTOP)
        return pipe, process

    def until_the_first_ends(pipe, child, parts):
        said = heard(pipe, child, parts)
        if not isinstance(said, int):
            (second,) = (p for p in multiprocessing.active_children() if p != child.process)
            os.kill(second.pid, signal.SIGKILL)
        return said

    with monkeypatch.context() as patch:
        patch.setattr(workers, "_started", stopped)
        patch.setattr(workers, "_heard", until_the_first_ends)
        code, _, said = cli("collect", *flags, "--processes", "2")
    assert code == 2
    last = said.strip().splitlines()[-1]
    assert "process 2 of 2 (contexts 224 to 400) was ended by SIGKILL" in last
    assert "rerun the same command to resume" in last
    assert not multiprocessing.active_children()
    left = {f.name for f in (tmp_path / "cut").iterdir()}
    assert left == {"run.json", "run.log", ".lock", "collect-0-of-1-from-0.checkpoint"}
    code, _, said = cli("collect", *flags, "--processes", "2")  # of the half that is missing
    assert code == 0, said
    assert "resuming after 224 contexts" in said
    assert_same_evidence(tmp_path / "one", tmp_path / "cut")


def test_sparse_activations_are_read_in_processes_that_pass_ctrl_c_by(
    cli, planted, tmp_path, monkeypatch
):
    """It is for the one that started them, though a terminal tells all of it."""
    cache = open_cache(planted.cache, None, None)
    ids, activations = cache.text(), cache.read(0, cache.contexts).float()
    coder = load_coder(str(planted.coder))
    write_cache(tmp_path / "sparse", ids, activations, cache.get_vocabulary(), encoded_by=coder)
    flags = ["--cache", str(tmp_path / "sparse"), "--batch-contexts", "32"]
    assert cli("collect", *flags, "--out", str(tmp_path / "one"))[0] == 0
    started, heard = workers._started, workers._heard

    def interrupted():
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGINT)

    monkeypatch.setattr(workers, "_started", lambda *a: (started(*a), interrupted())[0])
    monkeypatch.setattr(workers, "_heard", lambda *a: (heard(*a), interrupted())[0])
    code, _, said = cli("collect", *flags, "--out", str(tmp_path / "many"), "--processes", "2")
    assert code == 0, said
    assert "of memory in 2 processes" in said
    assert_same_evidence(tmp_path / "one", tmp_path / "many")


def test_ctrl_c_ends_all_processes(cli, planted, tmp_path, monkeypatch):
    seen = []

    def interrupted(pipes):
        seen.extend(multiprocessing.active_children())
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "connection", SimpleNamespace(wait=interrupted))
    code, _, said = cli("collect", *planted.flags(tmp_path / "out"), "--processes", "2")
    assert code == 130
    assert "stopped; rerun the same command to resume" in said
    assert len(seen) == 2
    assert not any(process.is_alive() for process in seen)
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"run.json", "run.log", ".lock"}


class _Threads:
    """Threads in the place of processes: these would all have to import transformers first."""

    Pipe = staticmethod(multiprocessing.Pipe)

    @staticmethod
    def Process(target, args, daemon):
        *rest, pipe = args
        own = connection.Connection(os.dup(pipe.fileno()), readable=False)
        return threading.Thread(target=target, args=(*rest, own), daemon=daemon)


@pytest.mark.parametrize("tokens", [400, 200])  # more than there are, and fewer
def test_a_subject_model_is_run_on_parts_of_the_text(cli, tmp_path, monkeypatch, tokens):
    subject = write_subject(tmp_path / "subject", width=6)
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat cat cat the " * 30)
    write_saelens(tmp_path / "sae", "standard")
    flags = ["--coder", str(tmp_path / "sae"), "--subject", str(subject), "--text", str(text)]
    flags += ["--hook", "residual:1", "--context-length", "4", "--batch-contexts", "8"]
    flags += ["--tokens", str(tokens)]
    code, _, said = cli("collect", *flags, "--out", str(tmp_path / "one"))
    assert code == 0, said
    monkeypatch.setattr(workers, "_processes", _Threads)
    # Loaded in two threads at once, models of transformers stay without weights ever after.
    one_at_a_time = threading.Lock()

    def load(*args):
        with one_at_a_time:
            return load_subject(*args)

    monkeypatch.setattr(stream, "load_subject", load)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    remark = "the text ends after 268 of the 400 tokens asked for"
    assert (remark in said) == (tokens == 400)
    for processes in ("2", "3"):
        out = tmp_path / processes
        code, _, said = cli("collect", *flags, "--out", str(out), "--processes", processes)
        assert code == 0, said
        assert (remark in said) == (tokens == 400)
        assert_same_evidence(tmp_path / "one", out)


def test_a_mistake_that_a_process_finds_is_said_as_ever(tmp_path):
    gone, cpu = workers.Place(None, tmp_path / "gone", None, None, None), torch.device("cpu")
    torch.save(None, tmp_path / "pass")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    part = Part(range(2, 9), 0)
    child = workers._Child(1, part, 0, multiprocessing.Process())
    theirs.send(workers._done(tmp_path / "pass", gone, cpu, part.contexts, theirs))
    with pytest.raises(AutointerpError, match="no activation cache at"):
        workers._heard(ours, child, 3)
    theirs.send(workers._done(tmp_path / "none", gone, cpu, part.contexts, theirs))
    with pytest.raises(RuntimeError, match=r"process 1 of 3 .contexts 2 to 9. failed:\nTraceback"):
        workers._heard(ours, child, 3)


def test_memory_for_fewer_processes_than_asked_is_said(cli, planted, tmp_path):
    flags = [*planted.flags(tmp_path / "out"), "--memory-gb", "0.004", "--processes", "2"]
    code, _, said = cli("collect", *flags)
    assert code == 0, said
    assert "0.00 GB of memory, 0.00 GB are to be had: 1 of the 2 processes asked for" in said


def test_text_of_the_hub_is_read_by_one_process(tmp_path):
    subject = write_subject(tmp_path / "subject")
    for text, one in (("hf:owner/dataset", True), (str(tmp_path), False)):
        settings = StreamSettings(str(subject), ("residual:1",), TextSettings(text, 4), 20, 2)
        stream = SubjectStream(settings, torch.device("cpu"))
        assert (why_one(stream) is not None) == one


def test_gpus_are_taken_in_turn_where_none_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(d) for d in devices_of(torch.device("cuda"))] == ["cuda:0", "cuda:1"]
    for named in ("cuda:1", "cpu"):
        assert devices_of(torch.device(named)) == [torch.device(named)]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_collected_is_not_read_again(cli, planted, tmp_path, monkeypatch, processes):
    """A run that died while it wrote only merges."""
    flags = [*planted.flags(tmp_path / "out"), "--memory-gb", "0.002"]
    with monkeypatch.context() as patch:
        patch.setattr("autointerp.stages.collect.collect_stage.write_features", None)
        with pytest.raises(TypeError):
            cli("collect", *flags)
    monkeypatch.setattr("autointerp.stages.collect.workers.read_part", None)
    code, _, said = cli("collect", *flags, "--processes", str(processes))
    assert code == 0, said
    assert said.count("resuming after 400 contexts") == 2
    assert len(pd.read_parquet(tmp_path / "out" / "windows.parquet")) > 500
