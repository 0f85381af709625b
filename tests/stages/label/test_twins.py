import json
import shutil
import signal
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import autointerp
from autointerp.labeling.labeler import Draft
from autointerp.labeling.twins import OVERLAP, alike, find_twins
from autointerp.llm.journal.journal import Journal
from autointerp.tables.write import read_drafts, write_drafts
from tests.conftest import run_command
from tests.support import scripted
from tests.support.fake_server import FakeServer, Fault, key_of, status
from tests.support.planted import WORDS, plant_coder
from tests.support.processes import Command

FEATURES = st.integers(0, 8)
CONTEXTS = st.sets(st.integers(0, 6), max_size=6)


def test_alike_is_either_way_round():
    similar = [(2, 0, 0.9), (0, 1, 0.99), (0, 2, 0.9), (3, 3, 1.0)]
    assert alike(similar, 0.98) == {0: [1], 1: [0]}
    assert alike(similar, 0.9) == {0: [1, 2], 1: [0], 2: [0]}
    assert alike(similar, 0.995) == {}


@given(
    st.dictionaries(st.integers(0, 8), CONTEXTS),
    st.sets(
        st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda pair: pair[0] != pair[1])
    ),
    st.lists(st.integers(1, 3), min_size=9, max_size=9),
)
def test_twins_take_the_label_of_a_more_frequent_feature_that_keeps_its_own(
    contexts, pairs, n_active
):
    neighbors: dict[int, list[int]] = {}
    for a, b in sorted(pairs | {(b, a) for a, b in pairs}):
        neighbors.setdefault(a, []).append(b)
    frequent = dict(enumerate(n_active))
    twins = find_twins(neighbors, contexts, frequent)

    def match(a: int, b: int) -> bool:
        both = contexts[a] | contexts[b]
        return bool(both) and len(contexts[a] & contexts[b]) / len(both) >= OVERLAP

    for feature, own in twins.items():
        assert own not in twins
        assert own in neighbors[feature]
        assert match(feature, own)
        assert (-frequent[own], own) < (-frequent[feature], feature)
    # Nobody is asked about who matches a feature that keeps its own label and is more frequent.
    asked = [f for f in contexts if f not in twins]
    for feature in asked:
        for other in asked:
            linked = feature != other and other in neighbors.get(feature, ())
            assert not (linked and match(feature, other))


@pytest.fixture(scope="module")
def collected(planted, tmp_path_factory):
    """0, 3 and 5 fire on one word, 5 with another decoder; 1 has the decoder of 2, not its word."""
    folder = tmp_path_factory.mktemp("twins")
    words = [("bade",), ("bafi",), ("bago",), ("bade",), ("baku",), ("bade",), ()]
    decoder = torch.eye(len(WORDS))[[WORDS.index(w[0]) if w else 60 for w in words]]
    decoder[5] = torch.eye(len(WORDS))[70]
    decoder[1] = decoder[2]
    plant_coder(folder / "coder", words, decoder)
    twinned = replace(planted, coder=folder / "coder", words=words)
    assert run_command("collect", *twinned.flags(folder / "run"))[0] == 0
    return twinned, folder / "run"


@pytest.fixture
def flags(collected, tmp_path, monkeypatch):
    """The flags of a run whose evidence is collected, one in each folder."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    twinned, run = collected

    def of(server: FakeServer, out: str = "out") -> list[str]:
        if not (tmp_path / out).exists():
            shutil.copytree(run, tmp_path / out)
        flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "2"]
        flags += ["--input-price", "1", "--output-price", "2", "--link-twins", "0.98"]
        return [*flags, *twinned.flags(tmp_path / out)]

    return of


def table(out) -> pd.DataFrame:
    return autointerp.load_labels(out).set_index("feature")


def asked_about(server: FakeServer) -> int:
    users = [r["messages"][1]["content"] for r in server.requests if '"labels"' in str(r)]
    return sum(user.count("\nFeature ") + user.startswith("Feature ") for user in users)


def test_a_twin_takes_the_label_for_nothing_and_is_scored_itself(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        _, _, said = cli("label", *flags(server), "--dry-run")
        assert "label: 3 requests" in said
        _, shown, _ = cli("prompt", "show", "label", *flags(server))
        assert "(no request for feature 3: it is a twin of 0)" in shown
        assert not server.requests
        code, _, said = cli("label", *flags(server))
        assert code == 0
        assert asked_about(server) == 5
        labels = table(tmp_path / "out")
        assert labels["label_of"].dropna().to_dict() == {3: 0}
        assert labels.loc[3, "label"] == labels.loc[0, "label"] == "bade"
        assert labels.loc[[3], ["prompt_tokens", "completion_tokens", "cost_usd"]].sum().sum() == 0
        assert labels.loc[5, "prompt_tokens"] > 0
        mean = labels.loc[[0, 1, 2, 4, 5], ["prompt_tokens", "completion_tokens"]].sum().sum() / 5
        line = next(x for x in said.splitlines() if "like a twin" in x)
        saved = json.loads((tmp_path / "out" / "run.json").read_text())["stages"]["label"]
        saved = saved["saved_by_twins"]
        assert (saved["features"], saved["requests"]) == (1, 1)
        assert saved["tokens"] == round(mean)
        assert saved["cost_usd"] == pytest.approx(labels["cost_usd"].sum() / 5)
        assert "label: 1 feature labeled like a twin, which saves about 1 labeling request" in line
        assert cli("score", *flags(server))[0] == 0
    labels = table(tmp_path / "out")
    assert labels.loc[3, "detection_balanced_accuracy"] >= 0.95
    assert labels.loc[3, "label_of"] == 0


def test_a_twin_is_asked_about_where_the_other_got_no_label(cli, flags, tmp_path):
    def refuse(request, _seen, index):
        return Fault("refusal") if "bade>>" in str(request) and index < 5 else None

    alone = ["--features-per-request", "1", "--max-concurrency", "1"]
    with FakeServer(scripted.answer, faults=refuse) as server:
        assert cli("label", *flags(server), *alone)[0] == 0
        assert asked_about(server) == 6
    labels = table(tmp_path / "out")
    assert labels["status"].eq("refused").tolist() == [True, *[False] * 4, True, False]
    assert labels["label_of"].isna().all()
    assert labels.loc[3, "label"] == "bade"
    assert labels.loc[3, "prompt_tokens"] > 0


def test_a_twin_waits_for_what_the_budget_did_not_allow(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        assert cli("label", *flags(server), "--budget", "0.000001")[0] == 0
        labels = table(tmp_path / "out")
        assert labels["status"].tolist()[:6] == ["over_budget"] * 6
        assert labels.loc[3, "error"] == "waiting for the label of feature 0, its twin"
        assert labels.loc[3, "label_of"] is pd.NA
        assert cli("label", *flags(server), "--budget", "1")[0] == 0
    assert table(tmp_path / "out").loc[3, "label_of"] == 0


def test_a_killed_run_finds_the_same_twins_and_asks_for_no_reply_it_has(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        slow = ["--features-per-request", "1", "--max-concurrency", "1"]
        server.on_served = lambda n: process.send(signal.SIGKILL) if n == 3 else None
        process = Command("label", *flags(server), *slow)
        process.wait()
        server.on_served = None
        journal = Journal.open(tmp_path / "out" / "journal.sqlite")
        written = {b for b in server.bodies if journal.get(key_of(server.url, b)) is not None}
        journal.close()
        before = len(server.bodies)
        assert cli("label", *flags(server), *slow)[0] == 0
        assert not written & set(server.bodies[before:])
        assert len(set(server.bodies)) == 5
        disturbed = table(tmp_path / "out")
        assert cli("label", *flags(server, "calm"), *slow)[0] == 0
    pd.testing.assert_frame_equal(disturbed, table(tmp_path / "calm"))


def test_a_run_that_stops_leaves_twins_pending(cli, flags, tmp_path):
    with FakeServer(scripted.answer) as server:
        server.faults = lambda _r, _s, _i: status(401, "key revoked")
        assert cli("label", *flags(server))[0] == 2
        assert table(tmp_path / "out")["status"].tolist()[:6] == ["pending"] * 6
        server.faults = None
        assert cli("label", *flags(server))[0] == 0
    assert table(tmp_path / "out")["label_of"].dropna().to_dict() == {3: 0}


def test_without_decoder_directions_nothing_is_linked_and_that_is_said(
    cli, planted, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    plant_coder(tmp_path / "coder", [("bade",)])
    one = replace(planted, coder=tmp_path / "coder").flags(tmp_path / "out")
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, "--link-twins", "0.9", *one]
        assert cli("collect", *flags)[0] == 0
        code, _, said = cli("label", *flags)
    assert code == 0
    assert "twins cannot be linked" in said
    assert table(tmp_path / "out")["status"].tolist() == ["labeled"]


def test_drafts_from_before_there_were_twins_are_read(tmp_path):
    draft = Draft(3, "labeled", "m", label="x")
    write_drafts([draft], tmp_path / "drafts.parquet")
    table = pq.read_table(tmp_path / "drafts.parquet").drop_columns(["label_of"])
    pq.write_table(table, tmp_path / "drafts.parquet")
    assert read_drafts(tmp_path / "drafts.parquet") == [draft]
