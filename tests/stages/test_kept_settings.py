"""Settings whose default has changed: runs of before keep what they were made with."""

from autointerp.config.settings import RunConfig
from autointerp.resources.kept_settings import settled
from autointerp.runs.directory import Run


def test_a_new_run_gets_the_present_default(tmp_path):
    assert settled(RunConfig(), Run(tmp_path / "new")).negatives == "label"
    assert settled(RunConfig(negatives="meaning"), Run(tmp_path / "new")).negatives == "meaning"


def test_a_run_that_was_begun_before_keeps_all_of_them(tmp_path):
    """Interrupted in any stage, or with a stage forgotten by `repair`: replies are paid for."""
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.update(config={"seed": 0}, stages={"collect": {"inputs": "x"}})
    found = settled(RunConfig(), run)
    assert (found.split, found.negatives) == ("context", "feature")


def test_a_run_that_was_scored_before_keeps_the_former_one(tmp_path):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.update(config={"seed": 0}, stages={"score": {"prompt_hashes": {}}})
    assert settled(RunConfig(), run).negatives == "feature"
    assert settled(RunConfig(negatives="label"), run).negatives == "label"
    run.update(config={"seed": 0, "negatives": "meaning"})
    assert settled(RunConfig(), run).negatives == "meaning"
    run.update(config={"seed": 0, "negatives": "nonsense"})
    assert settled(RunConfig(), run).negatives == "feature"
