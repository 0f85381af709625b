"""A new label of one feature, from a run as the command line leaves it."""

import json
import shutil
import sqlite3
import threading
import zlib
from datetime import UTC, datetime
from itertools import islice

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.labeling.excerpts import Shown, shown_windows
from autointerp.labeling.selections import selections
from autointerp.report.exchanges import feature_exchanges
from autointerp.runs.directory import Run
from autointerp.stages.label import relabel as stages_relabel
from autointerp.tables.edits import Edit, add_edit
from tests.conftest import run_command
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.samples import evidence, window

KEY = "sk-planted-secret"
FEATURE, DEAD, RARE = 3, 12, 13


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(scope="module")
def server():
    with FakeServer(scripted.answer) as server:
        yield server


@pytest.fixture(scope="module")
def labeled(planted, server, tmp_path_factory):
    """A run that was labeled and judged by a model, and how its windows are split."""
    out = tmp_path_factory.mktemp("relabel") / "run"
    flags = ["--model", "test-model", "--base-url", server.url, "--features-per-request", "4"]
    flags += ["--scorers", "detection", "--input-price", "1", "--output-price", "2"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OPENAI_API_KEY", KEY)
        code, _, err = run_command("run", *flags, *planted.flags(out))
    assert code == 0, err
    return out


@pytest.fixture
def run(labeled, tmp_path):
    shutil.copytree(labeled, tmp_path / "run")
    return Run(tmp_path / "run")


def settings(run, **changes):
    run.update(config=run.record().config | changes)


def own(run, **changes):
    """The settings of a person who names the endpoint that the run's record names."""
    named = ("model", "base_url", "input_price", "output_price")
    recorded = run.settings().shown()
    return RunConfig(**{name: recorded[name] for name in named} | changes)


def relabel(run, feature, **changes):
    """A new label, kept as the server keeps it."""
    draft = stages_relabel.relabel(run, feature, own(run, **changes))
    if draft.label is not None:
        now = datetime.now(UTC)
        add_edit(run, Edit(feature, "model_label", draft.labeler, now, label=draft.label))
    return draft


def shown(request):
    """The texts of the excerpts of a request about one feature."""
    (asked,) = scripted.asked(request)
    return {excerpt.text for excerpt in asked.excerpts}


def test_each_new_label_is_asked_for_with_other_windows(run, server, planted):
    before = {p: p.read_bytes() for p in (run.labels, run.drafts, run.scores)}
    record = run.record()
    table = pq.read_table(run.windows).to_pandas()
    own = table[table["feature"] == FEATURE]
    to_label = set(own["text"][own["split"] == "label"])
    first = [e for e in feature_exchanges(run, FEATURE) if e.about == f"label:{FEATURE}"]
    (group,) = (scripted.asked({"messages": e.messages}) for e in first)
    by_run = {excerpt.text for excerpt in group[FEATURE].excerpts}
    seen = [by_run]
    for n in range(1, 6):
        already = len(server.requests)
        draft = relabel(run, FEATURE)
        (request,) = server.requests[already:]
        assert set(draft.label.split()) == set(planted.words[FEATURE])
        assert (draft.feature, draft.status, draft.labeler) == (FEATURE, "labeled", "test-model")
        assert draft.cost_usd > 0
        assert min(draft.prompt_tokens, draft.completion_tokens) > 0
        windows = shown(request)
        assert windows <= to_label
        assert windows not in seen
        seen.append(windows)
        newest = feature_exchanges(run, FEATURE)[0]
        assert newest.messages == request["messages"]
        assert draft.label in newest.text
        assert newest.cost_usd == draft.cost_usd
        assert len(feature_exchanges(run, FEATURE)) >= n + 2
    assert {p: p.read_bytes() for p in before} == before
    assert run.record() == record


def test_a_label_that_was_paid_for_and_not_kept_is_not_paid_for_again(run, server):
    lost = stages_relabel.relabel(
        run, FEATURE, own(run)
    )  # its process died before the edit was written
    already = len(server.requests)
    assert relabel(run, FEATURE).label == lost.label
    assert len(server.requests) == already
    relabel(run, FEATURE)
    assert len(server.requests) == already + 1


def test_what_the_run_showed_for_candidates_counts_as_shown(run, labeled, server, tmp_path):
    relabel(run, FEATURE)
    relabel(run, FEATURE)
    other_views = [shown(request) for request in server.requests[-2:]]
    shutil.copytree(labeled, tmp_path / "candidates")
    settings(Run(tmp_path / "candidates"), candidates=3)
    relabel(Run(tmp_path / "candidates"), FEATURE)
    assert shown(server.requests[-1]) not in other_views


def test_what_was_never_shown_is_shown_as_usual(run, server):
    """As of a feature that a rule or a twin gave its label."""
    usual = next(e for e in feature_exchanges(run, FEATURE) if e.about == f"label:{FEATURE}")
    group = scripted.asked({"messages": usual.messages})
    drafts = pq.read_table(run.drafts)
    place = drafts.column_names.index("labeler")
    pq.write_table(drafts.set_column(place, "labeler", [["lexical"] * len(drafts)]), run.drafts)
    relabel(run, FEATURE)
    assert shown(server.requests[-1]) == {e.text for e in group[FEATURE].excerpts}


def test_the_exchanges_of_a_feature_are_its_label_s_and_its_judgings(run):
    found = feature_exchanges(run, FEATURE)
    abouts = [e.about for e in found]
    assert abouts[0] == f"label:{FEATURE}"
    assert f"detection:{FEATURE}" in abouts
    nulls = [a for a in abouts if a.startswith(f"detection:{FEATURE}:of:")]
    assert len(nulls) == 1
    (null,) = (e for e in found if e.about == nulls[0])
    assert "Description: " in null.messages[1]["content"]
    assert json.loads(null.reply)["choices"][0]["message"]["content"] == null.text
    assert feature_exchanges(run, DEAD) == []
    assert feature_exchanges(Run(run.path / "none"), FEATURE) == []


def test_no_key_is_in_the_journal(run):
    relabel(run, FEATURE)
    connection = sqlite3.connect(run.journal)
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    blobs = 0
    for table in tables:
        for row in connection.execute(f"SELECT * FROM {table}"):
            for value in row:
                blobs += isinstance(value, bytes)
                text = zlib.decompress(value) if isinstance(value, bytes) else str(value).encode()
                assert KEY.encode() not in text
    connection.close()
    assert blobs > 20


def test_it_works_in_another_thread(run):
    found = []
    thread = threading.Thread(target=lambda: found.append(relabel(run, FEATURE)))
    thread.start()
    thread.join()
    assert found[0].status == "labeled"


def test_a_feature_that_fires_little_is_asked_about_until_there_is_nothing_else_to_show(
    run, server
):
    already = len(server.requests)
    said = ""
    while not said:
        try:
            assert relabel(run, RARE).status == "labeled"
        except AutointerpError as error:
            said = str(error)
    assert said.startswith(f"feature {RARE} has no other selection of windows to show")
    assert 0 < len(server.requests) - already < 20


@pytest.mark.parametrize(
    ("feature", "changes", "why"),
    [
        (DEAD, {}, "has no activating windows"),
        (99, {}, "feature 99 was not collected"),
        (FEATURE, {"labeler": "lexical"}, "asking for a new label needs a model"),
        (FEATURE, {"model": None}, "asking for a new label needs a model"),
        (FEATURE, {"budget": 1e-6}, r"was not relabeled: the budget of \$1e-06 is used up"),
        (FEATURE, {"model": "none-such"}, "does not serve 'none-such'"),
        (
            FEATURE,
            {"api_key_env": "NO_SUCH_KEY", "base_url": "http://a.invalid/v1"},
            "no API key for",
        ),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(run, server, feature, changes, why):
    already = len(server.requests)
    with pytest.raises(AutointerpError, match=why) as said:
        relabel(run, feature, **changes)
    assert "\n" not in str(said.value)
    assert all(r["max_tokens"] == 1 for r in server.requests[already:])


def test_a_run_that_is_busy_is_left_alone(run, server):
    already = len(server.requests)
    with run.locked(), pytest.raises(AutointerpError, match="another autointerp"):
        relabel(run, FEATURE)
    assert len(server.requests) == already


@pytest.mark.parametrize("taken", [{"label_top": "x"}, {"seed": -1}, {"label_top": 21}])
def test_what_is_taken_from_the_record_is_checked(run, server, taken):
    settings(run, **taken)
    already = len(server.requests)
    with pytest.raises(AutointerpError, match=r"run.json: (setting|label_top)"):
        relabel(run, FEATURE)
    assert len(server.requests) == already


def test_settings_of_another_version_are_no_matter(run):
    settings(run, gone="x", old=1)
    assert relabel(run, FEATURE).status == "labeled"


def test_without_a_run_it_is_said(tmp_path):
    with pytest.raises(AutointerpError, match="run `autointerp collect` first"):
        stages_relabel.relabel(Run(tmp_path), 0, RunConfig(model="m"))


windows = st.lists(
    st.tuples(st.sampled_from(["top", "sample"]), st.integers(0, 30), st.floats(0, 1)),
    min_size=1,
    max_size=30,
    unique_by=lambda drawn: drawn[:2],  # one of a kind from a context
)


@few(max_examples=40)
@given(windows, st.integers(0, 4), st.integers(1, 4), st.integers(0, 20))
def test_no_two_selections_show_the_same_windows(drawn, top, quantiles, sample_windows):
    own = [
        window([1], [1.0 + q], kind=kind, context=context, rank=i, quantile=q)
        for i, (kind, context, q) in enumerate(drawn)
    ]
    other = [window([1], [1.0], split="score", context=99), window([1], [0.0], kind="negative")]
    given_ = evidence(7, own + other)
    seen = set()
    every = list(islice(selections(given_, Shown(top, quantiles), sample_windows, 0), 20))
    for of, view in every:
        chosen = shown_windows(of, view)
        contexts = [w.context for w in chosen]
        assert 0 < len(contexts) == len(set(contexts)) <= top + quantiles
        assert all(any(w is mine for mine in own) for w in chosen)
        assert [w for w in of.windows if w.kind == "negative" or w.split == "score"] == other
        seen.add(frozenset((w.context, w.start) for w in chosen))
    assert len(seen) == len(every)
    assert every[0][1] == Shown(top, quantiles)
    again = islice(selections(given_, Shown(top, quantiles), sample_windows, 0), 20)
    assert [shown_windows(*one) for one in again] == [shown_windows(*one) for one in every]
