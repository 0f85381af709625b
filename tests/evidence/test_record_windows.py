"""What is kept of records: compared with what is picked from them by hand."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autointerp.evidence import record_spool
from autointerp.evidence.collector import CollectSettings
from autointerp.evidence.record_spool import RecordSpool
from autointerp.evidence.record_windows import SPLITS, RecordWindows
from autointerp.evidence.selection import NONE, SelectionSpec
from autointerp.tensors.hashing import split_of_contexts

LENGTH, BEFORE = 6, 3
KINDS = ("top", "sample", "negative")


def settings(k, repeats="none", seed=0):
    selections = tuple(SelectionSpec(kind, split, k) for split in SPLITS for kind in KINDS)
    return CollectSettings(LENGTH, BEFORE, selections, seed, repeats, (), 0)


def spooled(folder, records):
    """records: of (feature, token ids, activations, key)."""
    folder.mkdir(exist_ok=True)
    spool = RecordSpool(folder)
    for feature, ids, values, key in records:
        spool.add(feature, np.int32(ids), np.float32(values), key, key, -1)
    return spool


def kept_of(spool, chosen, only=None):
    features, numbers, _ = spool.by_feature()
    kept = RecordWindows(torch.from_numpy(features), chosen, only)
    for batch in spool.batches(numbers, chosen.length):
        kept.add(batch)
    kept.settle()
    kept.choose()
    return features, kept


def windows_in(features, kept):
    """(feature, kind, split) → windows in their order: record, start, ids and activations."""
    found = defaultdict(list)
    for selection in kept.selections:
        for row, place in (selection.priority != NONE).nonzero().tolist():
            valid = selection.token_ids[row, place] >= 0
            key = (int(features[row]), selection.spec.kind, selection.spec.split)
            found[key].append(
                (
                    int(selection.context[row, place]),
                    int(selection.start[row, place]),
                    selection.token_ids[row, place][valid].tolist(),
                    selection.activations[row, place][valid].tolist(),
                )
            )
    return found


def random_records(rng, n, features=3, longest=15):
    records = []
    for i in range(n):
        length = int(rng.integers(1, longest))
        values = rng.uniform(1, 9, length).round(2) * (rng.random(length) < rng.choice([0, 0.2]))
        ids = rng.integers(0, 50, length)
        records.append((int(rng.integers(features)), ids.tolist(), values.tolist(), 7919 * i + 1))
    return records


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 4))
def test_windows_are_those_picked_by_hand(tmp_path_factory, seed, n, k):
    rng = np.random.default_rng(seed)
    records = random_records(rng, n)
    spool = spooled(tmp_path_factory.mktemp("spool"), records)
    features, kept = kept_of(spool, settings(k, seed=seed))
    found = windows_in(features, kept)
    splits = split_of_contexts(torch.tensor([r[3] for r in records]), seed).tolist()
    for (feature, kind, split), windows in found.items():
        assert len({w[0] for w in windows}) == len(windows) <= k
        for number, start, ids, values in windows:
            own, every, activations, _ = records[number]
            assert (own, SPLITS[splits[number]]) == (feature, split)
            end = start + len(ids)
            assert ids == every[start:end]
            assert len(ids) == min(LENGTH, len(every))
            expected = np.float32(activations[start:end])
            assert values == (expected if kind != "negative" else 0 * expected).tolist()
            assert not (kind == "negative" and np.any(expected))
            if kind == "top":
                peak = int(np.argmax(activations))
                assert start == max(0, min(peak - BEFORE, len(every) - len(ids)))
    for feature in set(features.tolist()):
        for number, split in enumerate(SPLITS):
            mine = [i for i, r in enumerate(records) if (r[0], splits[i]) == (feature, number)]
            fires = sorted((-max(records[i][2]), i) for i in mine if any(records[i][2]))
            tops = [w[0] for w in found[feature, "top", split]]
            assert tops == [i for _, i in fires][:k]
            assert len(found[feature, "sample", split]) == min(k, len(fires))
            silent = {i for i in mine if not any(records[i][2])}
            negatives = {w[0] for w in found[feature, "negative", split]}
            if silent:
                assert negatives <= silent
                assert len(negatives) == min(k, len(silent))
            else:
                assert len(negatives) == min(k, sum(map(has_silent_part, mine_of(records, mine))))
    statistics = kept.statistics
    assert statistics.n_active.tolist() == [
        sum(np.count_nonzero(r[2]) for r in records if r[0] == f) for f in features
    ]


def mine_of(records, numbers):
    return [records[i][2] for i in numbers]


def has_silent_part(values):
    return any(not any(values[i : i + LENGTH]) for i in range(len(values) - LENGTH + 1))


def test_order_and_batches_change_nothing(tmp_path, monkeypatch):
    records = random_records(np.random.default_rng(5), 80)
    one = windows_in(*kept_of(spooled(tmp_path / "a", records), settings(3)))
    monkeypatch.setattr(record_spool, "_CELLS_AT_ONCE", 40)
    assert windows_in(*kept_of(spooled(tmp_path / "b", records), settings(3))) == one


def test_a_record_given_twice_counts_once(tmp_path):
    record = (4, [1, 2, 3], [0.0, 2.0, 0.0], 11)
    other = (5, [1, 2, 3], [0.0, 0.0, 3.0], 11)
    features, kept = kept_of(spooled(tmp_path, [record, other, record]), settings(3))
    assert features.tolist() == [4, 5]
    assert kept.records == 2
    assert kept.statistics.n_active.tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_what_repeats_is_on_one_side_alone(tmp_path, seed):
    """Near-duplicates of one text have other keys, and other sides at first."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, 1000, 12).tolist()
    values = [0.0] * 8 + [3.0] + [0.0] * 3
    records = []
    for key in range(60):
        ids = list(text)
        ids[0] = int(rng.integers(1000))
        records.append((0, ids, values, 104_729 * key + seed))
    features, kept = kept_of(spooled(tmp_path, records), settings(3, "near", seed))
    found = windows_in(features, kept)
    sides = {split for (_, kind, split), windows in found.items() if windows and kind == "top"}
    assert len(sides) == 1


def test_all_may_be_for_one_thing(tmp_path):
    records = random_records(np.random.default_rng(1), 40)
    found = windows_in(*kept_of(spooled(tmp_path, records), settings(3), only="label"))
    assert {split for (_, _, split), windows in found.items() if windows} == {"label"}
