import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.evidence.checkpoint import checkpointed, load_checkpoint, save_checkpoint
from autointerp.evidence.collector import Collector, CollectSettings, state_bytes
from autointerp.tensors.hashing import file_sha256
from tests.evidence.test_collector import CPU, SPECS, Corpus, cut, similar_to


def collector_of(corpus, features=(0, 1, 3), window=4, seed=3):
    _, length, width = corpus.values.shape
    chosen = CollectSettings(window, 2, SPECS, seed)
    similar = similar_to(features, width)
    return Collector(torch.tensor(features), torch.arange(width), length, chosen, CPU, similar)


def assert_same(one, other):
    for collector in (one, other):
        collector.settle()
    for name, table in one.tables().items():
        assert torch.equal(table, other.tables()[name]), name
    counters = [c.counters() for c in (one, other)]
    for found in counters:
        # How many were met that repeat a better one depends on what was kept at the time.
        found.pop("repeats")
    assert counters[0] == counters[1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), stops=st.lists(st.integers(0, 9), max_size=3))
def test_a_collection_goes_on_from_its_checkpoint_to_the_same_result(tmp_path_factory, seed, stops):
    corpus = Corpus(seed, 40, 7, 4, 0.3)
    batches = cut(40, [4], seed)
    whole = collector_of(corpus)
    for rows in batches:
        whole.add(*corpus.batch(rows))
    path = tmp_path_factory.mktemp("c") / "checkpoint"
    collector = collector_of(corpus)
    done = 0
    for number, rows in enumerate(batches):
        if number in stops:
            save_checkpoint(path, collector, "x", range(done))
            collector.add(*corpus.batch(rows))  # lost with the process
            collector = collector_of(corpus)
            assert load_checkpoint(path, collector, "x") == range(done)
        collector.add(*corpus.batch(rows))
        done += len(rows)
    assert_same(whole, collector)


def test_a_checkpoint_of_something_else_or_a_damaged_one_is_passed_over(tmp_path):
    corpus = Corpus(1, 20, 7, 4, 0.3)
    collector = collector_of(corpus)
    collector.add(*corpus.batch(range(20)))
    path = tmp_path / "checkpoint"
    size = save_checkpoint(path, collector, "x", range(7, 20))
    assert size == path.stat().st_size
    assert checkpointed(path, "x") == range(7, 20)
    assert checkpointed(path, "y") is None
    for other, inputs in (
        (collector_of(corpus), "y"),
        (collector_of(corpus, features=(0, 1)), "x"),
    ):
        assert load_checkpoint(path, other, inputs) is None
        assert other.statistics.tokens == 0
    assert load_checkpoint(path, collector_of(corpus), "x") == range(7, 20)
    before = file_sha256(path)
    path.write_bytes(path.read_bytes()[: size // 2])
    assert load_checkpoint(path, collector_of(corpus), "x") is None
    assert checkpointed(path, "x") is None
    assert file_sha256(path) != before
    assert load_checkpoint(tmp_path / "none", collector_of(corpus), "x") is None


def test_memory_is_as_stated_and_does_not_grow_with_the_corpus():
    few, many = Corpus(1, 20, 7, 4, 0.3), Corpus(1, 400, 7, 4, 0.3)
    sizes = []
    for corpus in (few, many):
        collector = collector_of(corpus)
        for rows in cut(len(corpus.values), [20], 0):
            collector.add(*corpus.batch(rows))
        collector.settle()
        tables = collector.tables()
        sizes.append(sum(t.nbytes for n, t in tables.items() if n != "firing_windows"))
    assert sizes[0] == sizes[1]
    assert sizes[0] == state_bytes(3, 4, collector.settings)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("killed_at", [3, 9])
def test_a_killed_collect_goes_on(cli, planted, tmp_path, monkeypatch, killed_at):
    flags = [*planted.flags(tmp_path / "whole"), "--batch-contexts", "32"]
    assert cli("collect", *flags)[0] == 0
    real, batches = Collector.add, []

    def add(self, batch, firings):
        batches.append(batch.first_context)
        if len(batches) == killed_at:
            raise _Killed
        real(self, batch, firings)

    flags = [*planted.flags(tmp_path / "cut"), "--batch-contexts", "32"]
    monkeypatch.setattr("autointerp.stages.collect.collect_stage.CHECKPOINT_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Collector, "add", add)
        with pytest.raises(_Killed):
            cli("collect", *flags)
    code, _, said = cli("collect", *flags)
    assert code == 0
    assert f"resuming after {32 * (killed_at - 1):,} contexts" in said
    for name in ("windows", "features"):
        one, other = (pd.read_parquet(tmp_path / d / f"{name}.parquet") for d in ("whole", "cut"))
        pd.testing.assert_frame_equal(one, other)
    assert not list((tmp_path / "cut").glob("*checkpoint*"))
    assert "checkpoint after" in (tmp_path / "cut" / "run.log").read_text()


def test_passes_that_ended_before_a_kill_are_not_done_again(cli, planted, tmp_path, monkeypatch):
    many = ["--batch-contexts", "32", "--memory-gb", "0.0003"]
    assert cli("collect", *planted.flags(tmp_path / "whole"), *many)[0] == 0
    real, seen = Collector.add, []

    def add(self, batch, firings):
        seen.append(int(self.features[0]))
        if len(set(seen)) == 3:
            raise _Killed
        real(self, batch, firings)

    flags = [*planted.flags(tmp_path / "cut"), *many]
    monkeypatch.setattr(Collector, "add", add)
    with pytest.raises(_Killed):
        cli("collect", *flags)
    done = set(seen[:-1])
    assert len(done) == 2
    seen.clear()
    monkeypatch.setattr(
        Collector, "add", lambda s, *given: (seen.append(int(s.features[0])), real(s, *given))
    )
    code, _, said = cli("collect", *flags)
    assert code == 0, said
    assert len(set(seen)) > 0
    assert not done & set(seen)
    for name in ("windows", "features"):
        one, other = (pd.read_parquet(tmp_path / d / f"{name}.parquet") for d in ("whole", "cut"))
        pd.testing.assert_frame_equal(one, other)
    assert not list((tmp_path / "cut").glob("*checkpoint*"))
