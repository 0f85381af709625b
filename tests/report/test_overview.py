"""The overview against loops over the rows."""

import json
import time
from collections import Counter
from dataclasses import asdict
from statistics import median

import numpy as np
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.report.distributions import MAX_POINTS
from autointerp.report.overview import Cost, Count, Failure, StageTime, overview
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS, chance_of
from autointerp.tables.schema import labels_schema
from tests.support import scripted
from tests.support.fake_server import FakeServer
from tests.support.made_run import HOSTILE, make_run, write


def check(found):
    """Every number is finite, and JSON keeps it all."""
    again = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert again.keys() == asdict(found).keys()
    return found


def bin_of(value, edges):
    """The last bin that begins at or below the value, or the first."""
    return max([i for i, edge in enumerate(edges[:-1]) if value >= edge], default=0)


def histogram(values, edges):
    counts = Counter(bin_of(value, edges) for value in values)
    return [counts[i] for i in range(len(edges) - 1)]


def float32(value):
    return float(np.float32(value))


@pytest.mark.parametrize("scorers", [("detection", "simulation"), tuple(SCORERS)], ids=len)
def test_every_number_is_that_of_the_rows(tmp_path, scorers):
    run, labels, scores = make_run(tmp_path / "run", features=300, scorers=scorers, reasons=30)
    found = check(overview(run))

    statuses = Counter(row["status"] for row in labels)
    assert {c.name: c.n for c in found.counts} == statuses
    assert [c.n for c in found.counts] == sorted(statuses.values(), reverse=True)
    flags = Counter(flag for row in labels for flag in row["flags"])
    assert {c.name: c.n for c in found.flags} == flags
    reasons = Counter((row["status"], row["error"]) for row in labels if "error" in row)
    assert len(found.failures) == 21
    for failure in found.failures[:-1]:
        assert reasons.pop((failure.status, failure.reason)) == failure.n
    rest = sum(reasons.values())
    assert found.failures[-1] == Failure("", "other", rest)
    assert max(reasons.values()) <= min(f.n for f in found.failures[:-1])

    metrics = {(row["scorer"], row["metric"]) for row in scores}
    assert {(d.scorer, d.metric) for d in found.scores} == metrics
    assert [d.main for d in found.scores] == sorted([d.main for d in found.scores], reverse=True)
    for d in found.scores:
        rows = [r for r in scores if (r["scorer"], r["metric"]) == (d.scorer, d.metric)]
        values = [r["value"] for r in rows if r["value"] is not None]
        nulls = [r["null_value"] for r in rows if "null_value" in r]
        p = [r["p_value"] for r in rows if "p_value" in r]
        chance = chance_of(d.scorer, d.metric)
        assert d.by_chance == (chance is not None)
        if d.by_chance:  # a constant is no distribution
            nulls = []
        assert (d.n, d.null_n) == (len(values), len(nulls))
        assert d.median == pytest.approx(median(values), abs=1e-6)
        assert d.null_median == pytest.approx(median(nulls) if nulls else chance, abs=1e-6)
        assert d.quartiles == pytest.approx(np.quantile(values, [0.25, 0.75]), abs=1e-6)
        assert (d.lowest, d.highest) == pytest.approx((min(values + nulls), max(values + nulls)))
        assert d.p_below == pytest.approx(sum(x < 0.05 for x in p) / len(p))
        assert (d.tested, d.beat_null) == (len(p), sum(2 * x <= 0.05 for x in p))
        assert d.counts == histogram(values, d.edges)
        assert d.null_counts == histogram(nulls, d.edges)
        assert d.edges[-1] == 1
        assert (d.edges[0] == 0) == (d.metric != "explained_variance")

    main = {(s, SCORERS[s].metric) for s in scorers}
    assert {(s.scorer, s.metric) for s in found.scatter} == main
    density = {row["feature"]: float32(row["density"]) for row in labels}
    for s in found.scatter:
        points = {
            (r["feature"], density[r["feature"]], float32(r["value"]))
            for r in scores
            if (r["scorer"], r["metric"]) == (s.scorer, s.metric) and r["value"] is not None
        }
        assert len(points) == s.of
        drawn = zip(s.feature, s.density, s.value, strict=True)
        assert {(f, float32(d), float32(v)) for f, d, v in drawn} == points

    fires = [d for d in density.values() if d > 0]
    assert found.density.zero == len(density) - len(fires)
    assert found.density.counts == histogram(fires, found.density.edges)
    assert found.density.edges[0] <= min(fires)
    assert found.density.edges[-1] == 1

    strata = autointerp.load_strata(run.path)
    assert {c.scorer for c in found.strata} == set(strata["scorer"])
    for curve in found.strata:
        rows = strata[strata["scorer"] == curve.scorer].set_index(["label", "stratum"])
        assert [row.name for row in curve.deciles()] == sorted(row.name for row in curve.deciles())
        assert len(curve.rows) == len(rows.loc["own"])
        for row in curve.rows:
            assert row.own == rows.loc[("own", row.name), curve.figure]
            assert row.n == rows.loc[("own", row.name), "n"]
            assert row.another == rows.loc[("another", row.name), curve.figure]

    paid = [row for row in labels if row["prompt_tokens"]]
    usd = sum(row["cost_usd"] for row in labels)
    tokens = [sum(row[f"{kind}_tokens"] for row in labels) for kind in ("prompt", "completion")]
    assert found.cost == Cost(*tokens, pytest.approx(usd), pytest.approx(usd / len(paid)), 21, 6)
    assert found.time == [
        StageTime("collect", 2.0, 150.0),
        StageTime("label", 4.0, 75.0),
        StageTime("score", 0.0, None),
    ]
    assert found.labels.labeled == statuses["labeled"]
    assert (found.name, found.sae, found.model, found.judge) == ("run", "c", HOSTILE, "j")
    assert found.settings.keys() == {"out", "features", "model", "gone"}


def test_a_run_that_has_not_come_so_far_gives_the_parts_that_are_there(tmp_path):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    found = check(overview(Run(nothing)))
    assert (found.counts, found.scores, found.density, found.cost) == ([], [], None, None)

    found = check(overview(make_run(tmp_path / "evidence", labels=False)[0]))
    assert sum(found.density.counts) + found.density.zero == 80
    assert (found.counts, found.scores, found.strata, found.cost) == ([], [], [], None)
    assert [t.stage for t in found.time] == ["collect"]

    found = check(overview(make_run(tmp_path / "labels", scorers=())[0]))
    assert sum(c.n for c in found.counts) == 80
    assert (found.scores, found.scatter, found.strata, found.judge) == ([], [], [], None)
    assert found.labels is not None

    found = check(overview(make_run(tmp_path / "dead", dead=True)[0]))
    assert found.counts == [Count("dead", 80)]
    assert (found.density.edges, found.density.counts, found.density.zero) == ([], [], 80)
    assert (found.scores, found.labels) == ([], None)


def test_scores_of_labels_that_are_no_more_are_not_shown(tmp_path):
    run, labels, _ = make_run(tmp_path / "run")
    assert overview(run).scores
    anew = [{k: v for k, v in row.items() if not k.endswith("_n")} for row in labels]
    write(anew, labels_schema(), run.labels)
    found = overview(run)
    assert (found.scores, found.scatter, found.strata) == ([], [], [])


def test_a_price_that_is_not_known_stays_unknown(tmp_path):
    run, labels, _ = make_run(tmp_path / "run")
    next(row for row in labels if row["prompt_tokens"])["cost_usd"] = None
    write(labels, labels_schema(), run.labels)
    found = check(overview(run)).cost
    assert (found.cost_usd, found.per_feature_usd) == (None, None)


def test_curves_follow_the_predictions(tmp_path):
    run, _, _ = make_run(tmp_path / "run")
    before = overview(run).strata
    assert overview(run).strata == before
    other, _, _ = make_run(tmp_path / "other", seed=1)
    run.predictions.write_bytes(other.predictions.read_bytes())
    assert overview(run).strata != before
    run.predictions.write_bytes(b"no parquet")
    with pytest.raises(AutointerpError, match="predictions"):
        overview(run)


def test_of_many_features_a_sample_is_drawn_in_no_time(tmp_path):
    run, _, scores = make_run(tmp_path / "run", features=12_000, scorers=("detection",))
    run.predictions.unlink()
    overview(run)
    began = time.process_time()
    found = check(overview(run))
    assert time.process_time() - began < 1
    (scatter,) = found.scatter
    main = [r for r in scores if r["metric"] == "balanced_accuracy" and r["value"] is not None]
    assert (len(scatter.feature), scatter.of) == (MAX_POINTS, len(main))
    assert scatter.feature == sorted(set(scatter.feature))
    # Drawn from all of them, and the same again.
    assert np.mean(scatter.feature) == pytest.approx(np.mean([r["feature"] for r in main]), rel=0.1)
    assert overview(run).scatter == found.scatter


def test_a_real_run_with_a_control(cli, planted, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    out = tmp_path / "out"
    with FakeServer(scripted.answer) as server:
        flags = ["--model", "test-model", "--base-url", server.url, *planted.flags(out)]
        flags += ["--scorers", "detection,intruder", "--control", "random-label"]
        code, shown, said = cli("run", *flags, "--intruder-windows", "4")
        assert code == 0, said
        asked = len(server.requests)
    found = check(overview(Run(out)))
    assert {c.name: c.n for c in found.counts} == {"labeled": 12, "dead": 1, "too_few": 1}
    assert found.cost.requests <= asked  # the endpoint is tried before
    assert found.cost.requests > 12 / 10
    assert found.scores[0].title in shown
    assert f"median {found.scores[0].median:.3f}" in shown
    assert found.scores[0].null_n == 12
    assert [c.scorer for c in found.strata] == ["detection"]
    assert found.settings["control"] == "random-label"
    labels = autointerp.load_labels(out)
    assert found.cost.prompt_tokens == labels["prompt_tokens"].sum() > 0
