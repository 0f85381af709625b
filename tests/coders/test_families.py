"""Coders in the exact layouts of their families, against the published formulas in numpy."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from autointerp.coders import load_coder
from autointerp.coders.coder_format import CODER_FORMATS
from autointerp.errors import AutointerpError
from tests.support import layouts
from tests.support.layouts import FEATURES, LAYOUTS, D, K


def dense(coder, x):
    firings = coder.encode(x)
    found = np.zeros((len(x), coder.features))
    found[firings.token, firings.feature] = firings.value
    return found


def samples():
    return torch.randn(80, D, generator=torch.Generator().manual_seed(9)) * 2 + 0.3


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_encodes_and_decodes_as_published(tmp_path, layout):
    made = layout(tmp_path)
    coder = load_coder(made.path)
    x = samples()
    expected = made.encode(x.double().numpy())
    found = dense(coder, x)
    assert 0.01 < (expected > 0).mean() < 0.99
    assert ((found > 0) == (expected > 0)).all()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (coder.hook, coder.expected_l0) == (made.hook, made.l0)
    if made.decode is None:
        assert coder.read_decoder is None
        return
    reconstructed = coder.read_decoder().reconstruct(coder.encode(x), len(x))
    np.testing.assert_allclose(reconstructed, made.decode(expected), atol=1e-4)
    np.testing.assert_allclose(coder.prepared(x), made.target(x.double().numpy()), atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_a_named_format_gives_the_same(tmp_path, layout):
    path = layout(tmp_path).path
    formats = [name for name, known in CODER_FORMATS.items() if known.matches(path)]
    coder = load_coder(path, formats[0])
    assert np.array_equal(dense(coder, samples()), dense(load_coder(path), samples()))


def test_k_is_in_the_name_or_given(tmp_path):
    made = layouts.qwen_scope(tmp_path)
    moved = tmp_path / "layer7.sae.pt"
    made.path.rename(moved)
    with pytest.raises(AutointerpError, match="set it with --k"):
        load_coder(moved)
    assert load_coder(moved, k=3).k == 3
    with pytest.raises(AutointerpError, match="k=41 for 40 features"):
        load_coder(moved, k=FEATURES + 1)


def test_a_batch_topk_coder_without_a_threshold_says_what_it_does(tmp_path):
    coder = load_coder(layouts.dl_batch_topk_unset(tmp_path).path)
    assert "never set" in coder.notes[0]


def test_topk_and_batch_topk_are_not_guessed_apart(tmp_path):
    path = layouts.dl_batch_topk(tmp_path).path
    (path / "config.json").unlink()
    with pytest.raises(AutointerpError, match=r"trainer\.dict_class\), is missing"):
        load_coder(path)


def test_an_unknown_input_scale_comes_from_the_activations(tmp_path):
    path = layouts.openmoss_jumprelu_dataset_wise(tmp_path).path
    config = json.loads((path / "config.json").read_text())
    config |= {"hook_point_in": "elsewhere", "hook_point_out": "elsewhere"}
    (path / "config.json").write_text(json.dumps(config))
    coder = load_coder(path)
    assert coder.input_norm == "mean_norm"
    x = samples()
    scale = np.sqrt(D) / np.linalg.norm(x.double().numpy(), axis=1).mean()
    h = layouts.plain()(x.double().numpy() * scale)
    n = layouts.row_norms()
    expected = layouts.jumprelu(h * n, layouts.exact()["threshold"]) / n
    calibrated = coder.calibrated(float(x.norm(dim=1).mean()))
    np.testing.assert_allclose(dense(calibrated, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda f: (
                (f / "conf.yaml").write_text("x: 1"),
                (f / "latest_ckpt.safetensors").touch(),
            ),
            "a temporal SAE",
        ),
        (lambda f: (f / "W_enc_0.safetensors").touch(), "a cross-layer transcoder"),
        (lambda f: (f / "config.json").write_text('{"sae_type": "crosscoder"}'), "a crosscoder"),
        (lambda f: (f / "config.json").write_text('{"sae_type": "lorsa"}'), "sparse attention"),
        (lambda f: (f / "config.json").write_text('{"sae_type": "molt"}'), "linear transforms"),
        (lambda f: (f / "config.json").write_text('{"type": "clt"}'), "a cross-layer transcoder"),
        (
            lambda f: (f / "config.json").write_text(
                '{"trainer": {"dict_class": "BatchTopKCrossCoder"}}'
            ),
            "a crosscoder",
        ),
        (lambda f: (f / "cfg.json").write_text('{"architecture": "temporal"}'), "a temporal SAE"),
    ],
)
def test_what_is_no_coder_of_tokens_is_said_in_words(tmp_path, write, said):
    write(tmp_path)
    with pytest.raises(AutointerpError, match=said):
        load_coder(tmp_path)


def _truncate(path):
    among = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    file = max(among, key=lambda f: f.stat().st_size)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_truncated_files_are_one_clear_line(tmp_path, layout):
    path = layout(tmp_path).path
    _truncate(path)
    with pytest.raises(AutointerpError) as caught:
        load_coder(path).read_decoder()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_damaged_tensors_are_said(tmp_path):
    path = layouts.qwen_scope(tmp_path).path
    good = torch.load(path)
    for changes, said in [
        ({"b_enc": torch.full((FEATURES,), float("nan"))}, "not finite"),
        ({"W_enc": torch.randn(FEATURES + 1, D)}, "has 40 entries, one per feature"),
        ({"W_enc": torch.randn(FEATURES, FEATURES)}, "orientation of W_enc cannot be inferred"),
        ({"W_enc": "weights"}, "has no tensor 'W_enc'"),
    ]:
        torch.save(good | changes, path)
        with pytest.raises(AutointerpError, match=said):
            load_coder(path)
    torch.save([1, 2], path)
    with pytest.raises(AutointerpError, match="does not hold a dictionary"):
        load_coder(path)


def test_thresholds_of_another_length_are_refused(tmp_path):
    path = layouts.gemma_scope_2(tmp_path).path
    stored = {n.lower(): t for n, t in layouts.weights().items()} | {"threshold": torch.rand(7)}
    save_file(stored, path / "params.safetensors")
    with pytest.raises(AutointerpError, match="'threshold' has 7 entries for 40 features"):
        load_coder(path)


@pytest.mark.parametrize(
    ("layout", "file", "settings", "said"),
    [
        (layouts.sparsify_topk, "cfg.json", "[]", "does not hold a JSON object"),
        (layouts.sparsify_topk, "cfg.json", '{"k": "abc"}', "k='abc' for 40 features"),
        (layouts.sparsify_topk, "cfg.json", '{"activation": "relu"}', "'relu' is not supported"),
        (layouts.sparsify_groupmax, "cfg.json", '{"activation": "groupmax", "k": 7}', "equal"),
        (layouts.llama_scope, "hyperparams.json", "{", "cannot be read"),
        (layouts.llama_scope, "hyperparams.json", '{"act_fn": "jumprelu"}', "in is None, not a n"),
        (layouts.openmoss_topk, "config.json", '{"act_fn": "tanh"}', "'tanh' is not supported"),
        (layouts.openmoss_topk, "config.json", '{"use_glu_encoder": true}', "linear unit"),
        (layouts.openmoss_topk, "config.json", '{"norm_activation": "batch-wise"}', "batch-wise"),
    ],
)
def test_odd_settings_are_said(tmp_path, layout, file, settings, said):
    path = layout(tmp_path).path
    (path / file).write_text(settings)
    with pytest.raises(AutointerpError, match=said):
        load_coder(path)


def test_pickles_that_hold_code_are_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    folder = tmp_path / f"L0_{K}"
    folder.mkdir()
    for name in ("layer0.sae.pt", "ae.pt", "other.pt"):
        torch.save({"W_enc": Evil()}, folder / name)
        with pytest.raises(AutointerpError, match="holds more than tensors"):
            load_coder(folder / name)


def test_files_and_formats_that_are_not_there_are_said(tmp_path):
    with pytest.raises(AutointerpError, match="no such file or folder"):
        load_coder(tmp_path / "none")
    with pytest.raises(AutointerpError, match="there are saelens"):
        load_coder(tmp_path, "tensorflow")
    with pytest.raises(AutointerpError, match="the format was not recognized"):
        load_coder(tmp_path)
