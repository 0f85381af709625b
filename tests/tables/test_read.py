"""Tables in pandas: what they keep, several runs at once, runs in any state."""

import shutil
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.evidence.evidence_schema import FEATURES_SCHEMA, WINDOWS_SCHEMA
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.storage.columns import description
from autointerp.tables import edits
from autointerp.tables.schema import EDITED, PREDICTIONS, RUN, SCORES, labels_schema
from autointerp.tables.write import write_table
from tests.tables.test_compare import STAGES, score

FILES = ("labels", "scores", "predictions", "windows", "features")


def a_run(folder, labels, scores=(), scorers=()):
    folder.mkdir(parents=True)
    run = Run(folder)
    run.update(stages=STAGES)
    rows = [{"sae": "c", "prompt_tokens": 0, "flags": []} | row for row in labels]
    write_table(rows, labels_schema(scorers), run.labels)
    plain = {"sae": "c", "scorer": "detection", "metric": "balanced_accuracy", "judge": "m"}
    write_table([plain | row for row in scores], SCORES, run.scores)
    return folder


def label(feature, text="x", status="labeled", **columns):
    return {"feature": feature, "status": status, "label": text, **columns}


@pytest.fixture
def runs(tmp_path):
    first = a_run(
        tmp_path / "x" / "run",
        [
            label(0, "Plural nouns", top_tokens=["s", "es"], detection_balanced_accuracy=0.75),
            label(1, "a", meanings=["b", "c"], polysemantic=True, detection_n=4),
            label(2, None, "failed", error="no reply"),
        ],
        [score(0, 0.75)],
    )
    second = a_run(
        tmp_path / "y" / "run",
        [
            label(0, "plural  NOUNS", detection_balanced_accuracy=0.5, fade_purity=0.5, fade_n=3),
            label(1, "z", population_f1=0.25),
            label(3, "only here"),
        ],
        [score(0, 0.5), score(1, 0.5)],
        ["fade"],
    )
    return first, second


@pytest.fixture(scope="module")
def whole(planted, tmp_path_factory):
    """A run by rules, from the command line."""
    from tests.conftest import run_command

    out = tmp_path_factory.mktemp("whole") / "out"
    assert run_command("run", *planted.flags(out))[0] == 0
    return out


@pytest.mark.parametrize("name", FILES)
def test_every_column_of_a_run_says_what_it_holds(whole, name):
    schema = pq.read_schema(whole / f"{name}.parquet")
    assert [field.name for field in schema if not description(field)] == []
    assert schema.metadata[b"schema_version"] == b"3"


def test_every_column_that_there_can_be_says_what_it_holds(cli):
    known = [*labels_schema(SCORERS), *EDITED, RUN]
    others = (SCORES, PREDICTIONS, WINDOWS_SCHEMA, FEATURES_SCHEMA, edits.SCHEMA)
    for field in [*known, *(field for schema in others for field in schema)]:
        assert description(field).strip(), field.name
        assert description(field).isprintable(), field.name
    code, out, _ = cli("labels", "--columns")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [field.name for field in known]
    for line, field in zip(lines, known, strict=True):
        assert line.endswith(description(field))


@pytest.mark.parametrize("load", ["load_labels", "load_scores", "load_windows"])
def test_frames_go_back_to_arrow_as_they_were_written(whole, load):
    further = (0,) if load == "load_windows" else ()
    frame = getattr(autointerp, load)(whole, *further)
    written = pq.read_table(whole / f"{load.removeprefix('load_')}.parquet")
    if load == "load_windows":
        written = written.filter(written["feature"].to_numpy() == 0)
    for changed in (frame, frame.copy(), frame[frame.feature >= 0].sort_index()):
        given = changed.to_arrow()
        assert given.schema.equals(written.schema, check_metadata=True)
        assert given.to_pylist() == written.to_pylist()
    fewer = frame.set_index("feature")[["sae"]].head(1).to_arrow()
    assert fewer.column_names == ["feature", "sae"]
    assert description(fewer.schema.field("sae"))


def test_what_a_user_changed_goes_to_arrow_as_it_is(runs):
    frame = autointerp.load_labels(runs[0])
    frame["label"] = [1, 2, 3]
    frame["mine"] = frame.density > 0
    given = frame.to_arrow()
    assert given["label"].to_pylist() in ([1, 2, 3], ["1", "2", "3"])
    assert "mine" in given.column_names
    assert given["detection_n"].to_pylist() == [None, 4, None]


def test_the_usual_things_can_be_done_with_a_frame(runs):
    frame = autointerp.load_labels(runs[0])
    assert frame[frame.label.str.contains("noun", case=False, na=False)].feature.tolist() == [0]
    assert frame.explode("top_tokens").top_tokens.dropna().tolist() == ["s", "es"]
    assert frame.groupby("status", observed=True).size().to_dict() == {"failed": 1, "labeled": 2}
    assert frame.meanings.isna().tolist() == [True, False, True]
    assert list(frame.meanings[1]) == ["b", "c"]
    assert frame["flags"].map(len).sum() == 0
    assert isinstance(frame[frame.feature > 0].query("status == 'failed'"), type(frame))
    assert pd.isna(frame.loc[0, "detection_n"])
    # Joined and stacked with other frames it is a frame like any.
    assert len(pd.concat([frame, frame])) == 6
    assert frame.merge(frame[["feature", "label"]], on="feature").label_x.tolist()[0]


def test_several_runs_stand_beneath_one_another(runs):
    labels = autointerp.load_labels(runs)
    assert labels.run.tolist() == ["x/run"] * 3 + ["y/run"] * 3
    assert labels.columns[0] == "run"
    assert list(labels.columns[1:]) == labels_schema(["fade"]).names
    assert labels.fade_n.tolist() == [pd.NA, pd.NA, pd.NA, 3, pd.NA, pd.NA]
    given = labels.to_arrow()
    assert given["run"].to_pylist() == labels.run.tolist()
    assert all(description(field) for field in given.schema)
    scores = autointerp.load_scores(list(runs))
    assert scores.groupby("run", observed=True).size().to_dict() == {"x/run": 1, "y/run": 2}


def test_what_runs_say_of_a_feature_stands_side_by_side(runs, tmp_path):
    found = autointerp.label_differences(runs).set_index("feature")
    assert found.index.tolist() == [0, 1, 2, 3]
    assert found["label_x/run"].dropna().tolist() == ["Plural nouns", "a"]
    assert found["label_y/run"].dropna().tolist() == ["plural  NOUNS", "z", "only here"]
    assert found["same"].tolist() == [True, False, pd.NA, pd.NA]
    metric = "detection_balanced_accuracy"
    assert found.loc[0, [f"{metric}_x/run", f"{metric}_y/run"]].tolist() == [0.75, 0.5]
    assert found.loc[0, f"{metric}_difference_y/run"] == -0.25
    assert found[f"{metric}_difference_y/run"].notna().sum() == 1
    assert f"{metric}_difference_x/run" not in found
    assert "fade_purity_y/run" in found
    assert "fade_purity_x/run" not in found

    third = a_run(tmp_path / "third", [label(0, "plural nouns"), label(1), label(3, "ONLY here")])
    found = autointerp.label_differences([*runs, third]).set_index("feature")
    assert found["same"].tolist() == [True, False, pd.NA, pd.NA]
    assert found[f"{metric}_difference_third"].isna().all()


def test_runs_that_cannot_stand_side_by_side_are_refused(runs, tmp_path):
    for wrong, why in (
        ([], "pass at least one run"),
        ([runs[0], str(runs[0])], "passed twice"),
        ([tmp_path / "none", runs[0]], "no such folder"),
    ):
        for load in (autointerp.load_labels, autointerp.label_differences):
            with pytest.raises(AutointerpError, match=why):
                load(wrong)
    other = a_run(tmp_path / "other", [label(0)])
    Run(other).update(stages={"collect": {"hashes": {"coder": "an0ther"}}})
    with pytest.raises(AutointerpError, match="different SAEs"):
        autointerp.label_differences([runs[0], other])


def test_a_run_on_its_way_gives_what_is_there_and_says_what_is_not(whole, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(AutointerpError, match="no such folder"):
        autointerp.load_labels(out)
    shutil.copytree(whole, out)
    Run(out).forget_stages("score")
    with pytest.warns(UserWarning, match="is not finished"):
        assert len(autointerp.load_scores(out)) == len(autointerp.load_scores(whole))
    every = {
        "scores": lambda: autointerp.load_scores(out),
        "labels": lambda: autointerp.load_labels(out),
        "windows": lambda: autointerp.load_windows(out, 0),
    }
    Run(out).update(stages=Run(whole).stages())
    for name, load in every.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(
                len(later()) > 0 for later in list(every.values())[list(every).index(name) :]
            )
        (out / f"{name}.parquet").unlink()
        with pytest.raises(AutointerpError, match=rf"{name}\.parquet is missing") as missing:
            load()
        assert "\n" not in str(missing.value)


def test_windows_are_those_of_the_feature(whole, planted):
    written = pq.read_table(whole / "windows.parquet").to_pandas()
    for feature, words in enumerate(planted.words):
        found = autointerp.load_windows(whole, feature)
        own = written[written["feature"] == feature]
        assert found["context"].tolist() == own["context"].tolist()
        assert (len(found) > 0) or not words
        for row in found.to_dict("records"):
            assert isinstance(row["activations"], np.ndarray)
            assert len(row["activations"]) == len(row["token_ids"])
    with pytest.raises(AutointerpError, match="feature 99 was not collected"):
        autointerp.load_windows(whole, 99)


def test_a_column_that_the_run_does_not_have_is_no_way_to_sort(cli, runs):
    code, _, err = cli("labels", "--run", str(runs[0]), "--sort", "embedding")
    assert code == 2
    assert err.count("\n") == 1
    assert "--sort embedding: choose one of detection, simulation, f1" in err
    assert cli("labels", "--run", str(runs[1]), "--sort", "fade")[0] == 0
