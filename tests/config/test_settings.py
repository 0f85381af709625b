import tomllib

import pytest

from autointerp.config.loading import (
    config_template,
    load_config,
)
from autointerp.config.settings import RunConfig, all_settings, preferred
from autointerp.errors import AutointerpError


def test_flags_override_environment_overrides_file(tmp_path, monkeypatch):
    file = tmp_path / "run.toml"
    file.write_text('features = "0-9"\nseed = 1\nconcurrency = 2\n')
    monkeypatch.setenv("AUTOINTERP_SEED", "2")
    monkeypatch.setenv("AUTOINTERP_CONCURRENCY", "3")
    config = load_config(file, {"concurrency": 4, "model": None})
    assert (config.features, config.seed, config.concurrency) == ("0-9", 2, 4)


def test_the_template_holds_every_setting_and_its_default():
    template = config_template()
    entries = [
        line.removeprefix("# ")
        for line in template.splitlines()
        if " = " in line and not line.endswith("...") and line.startswith("# ")
    ]
    parsed = tomllib.loads("\n".join(entries))
    assert tomllib.loads(template).keys() == {s.section for s in all_settings().values()}
    defaults = RunConfig()
    assert parsed
    assert all(defaults.value(name) == value for name, value in parsed.items())
    for name in all_settings():
        assert f"# {preferred(name)} = " in template


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no_such = 1", r"setting no_such \(.*run.toml, line 1\): unknown setting"),
        ("concurency = 1", "did you mean concurrency"),
        ('\n[run]\nseed = "many"', r"setting seed \(.*run.toml, line 3\): "),
        ("[no_such]\nseed = 1", r"setting no_such \(.*run.toml, line 1\): unknown setting"),
        ("[run]\n[run.more]\nseed = 1", r"setting more \(.*run.toml\): unknown setting"),
        ("seed = 1\n[run]\nseed = 2", r"sets seed twice: .*run.toml, line 1"),
        ("run = 1", r"setting run \(.*run.toml, line 1\): unknown setting"),
        ("concurrency = 0", "setting concurrency "),
        (
            "window_length = 8\nwindow_before = 8",
            r"less than window_length \(8\) \(.*run.toml, line 2; .*run.toml, line 1\)",
        ),
        ('labeler = "llm"', "needs a model"),
        ("detection_windows = 26", "score_windows keeps 25"),
        ("simulation_windows = 60", "simulation_windows needs 30 activating"),
        (
            'scorers = "fuzzing"\nfuzzing_windows = 13',
            "fuzzing_windows needs 26 activating windows",
        ),
        ('scorers = "intruder"\nintruder_windows = 11', "intruder_windows needs 55 activating"),
        ('model = "m"\nlabel_top = 21', "label_top is 21, but top_windows keeps only 20"),
        (
            'model = "m"\nsample_windows = 4',
            "label_quantiles is 5, but sample_windows keeps",
        ),
        (
            'model = "m"\nlabel_contrast = 9\nnear_miss_windows = 5\nnegative_windows = 3',
            "label_contrast is 9, but near_miss_windows and negative_windows keep only 8",
        ),
        ('model = "m"\nlabel_top = 0\nlabel_quantiles = 0', "nothing to label from"),
        ("label_output_tokens = 11", "setting label_output_tokens "),
        ('label_activations = "colors"', "setting label_activations "),
        ("label_meanings = 0", "setting label_meanings "),
        ('scorers = "detection,magic"', "there is no scorer 'magic'; there are detection, "),
        ("input_price = 1.0", "give both"),
        ('tokens = "ids.npy"', "token ids are passed as --token-ids ids.npy"),
        ('tokens = "many"', "setting tokens "),
        ("tokens = 0", "setting tokens "),
        ("seed = ", "is not valid TOML"),
    ],
)
def test_bad_settings_are_said_in_one_line(tmp_path, text, said):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(AutointerpError, match=said) as caught:
        load_config(file, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("written", ["10_000", "10000", 10_000])
def test_tokens_are_a_number_however_it_is_written(written):
    assert load_config(None, {"tokens": written}).tokens == 10_000


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(AutointerpError, match="no such file"):
        load_config(tmp_path / "none.toml", {})


def test_what_a_labeler_is_shown_bounds_no_run_without_one(tmp_path):
    config = load_config(None, {"top_windows": 2, "sample_windows": 0})
    assert not config.uses_model()


def test_the_printed_template_uncommented_is_read_with_its_sections_and_without(tmp_path):
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and not line.endswith("...") else line
        for line in config_template().splitlines()
    )
    flat = "\n".join(line for line in uncommented.splitlines() if not line.startswith("["))
    for text in (uncommented, flat):
        (tmp_path / "run.toml").write_text(text)
        assert load_config(tmp_path / "run.toml", {}).values() == RunConfig().values()


def test_an_sae_is_called_so_and_its_former_name_is_accepted(tmp_path, monkeypatch):
    file = tmp_path / "run.toml"
    for text in (
        'sae = "a"\nsae_format = "npz"',
        '[activations]\ncoder = "a"\ncoder_format = "npz"',
    ):
        file.write_text(text)
        config = load_config(file, {})
        assert (config.coder, config.coder_format) == ("a", "npz")
    for variable in ("AUTOINTERP_SAE", "AUTOINTERP_CODER"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "b")
            assert load_config(file, {}).coder == "b"
    with monkeypatch.context() as patch:
        patch.setenv("AUTOINTERP_SAE", "b")
        patch.setenv("AUTOINTERP_CODER", "c")
        with pytest.raises(AutointerpError, match=r"AUTOINTERP_\w+ are the same setting"):
            load_config(None, {})
    file.write_text('sae = "a"\ncoder = "b"')
    with pytest.raises(AutointerpError, match=r"sets coder twice: .*line 1 and line 2"):
        load_config(file, {})
    with pytest.raises(AutointerpError, match=r"setting sae \(flag --sae\)"):
        load_config(None, {"coder": ""})
    assert "# sae = ..." in config_template().splitlines()


def test_every_wrong_setting_is_said_at_once_with_its_place(tmp_path, monkeypatch):
    file = tmp_path / "run.toml"
    file.write_text('[run]\nseed = -1\n\n[model]\ntimeout = 0\nno_such = "a"\nmodel = "m"\n')
    monkeypatch.setenv("AUTOINTERP_CONCURRENCY", "many")
    with pytest.raises(AutointerpError) as caught:
        load_config(file, {"judge_items": 0})
    said = str(caught.value)
    for expected in (
        f"setting seed ({file}, line 2): ",
        f"setting timeout ({file}, line 5): ",
        f"setting no_such ({file}, line 6): unknown setting",
        "setting concurrency (environment variable AUTOINTERP_CONCURRENCY): ",
        "setting judge_items (flag --judge-items): ",
    ):
        assert expected in said
    assert "\n" not in said


def test_settings_that_contradict_each_other_are_all_said_at_once(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("window_length = 8\nwindow_before = 8\ninput_price = 1.0\n")
    with pytest.raises(AutointerpError, match="less than window_length") as caught:
        load_config(file, {"labeler": "llm"})
    for expected in ("needs a model", "give both input_price", f"{file}, line 3", "--labeler"):
        assert expected in str(caught.value)
