"""From the command line: activations from every kind of source make the same evidence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.coders.test_coder import write_saelens
from tests.support.registry import tiny_model_of
from tests.support.tiny import tiny_model
from tests.support.tokenizers import word_tokenizer, write_subject

DATA = Path(__file__).parents[1] / "data"
DEMO = ["--subject", "demo", "--text", "demo", "--coder", "demo", "--tokens", "8_192"]
FEATURES = ["--features", "0-199"]


def windows(out, drop=("sae",)):
    return pd.read_parquet(out / "windows.parquet").drop(columns=list(drop))


def corpus(out):
    return pd.read_parquet(out / "corpus.parquet")


def features(out):
    return pd.read_parquet(out / "features.parquet").drop(columns="sae")


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """The evidence of a run that stores no activations."""
    from tests.conftest import run_command

    out = tmp_path_factory.mktemp("streamed") / "run"
    code, _, said = run_command("collect", *DEMO, *FEATURES, "--out", str(out))
    assert code == 0, said
    assert not any(p.suffix == ".safetensors" for p in out.rglob("*"))
    assert len(windows(out)) > 5000
    return out


@pytest.mark.parametrize("store", ["bfloat16", "sparse"])
def test_the_windows_of_a_stream_equal_those_through_a_cache(cli, streamed, tmp_path, store):
    cache = ["--cache", str(tmp_path / "cache"), "--store", store]
    code, _, said = cli("capture", *DEMO, *cache, "--out", str(tmp_path / "run"))
    assert code == 0, said
    assert ("times as much" in said) == (store == "sparse")
    read = ["--cache", str(tmp_path / "cache"), "--coder", "demo"]
    code, _, said = cli("collect", *read, *FEATURES, "--out", str(tmp_path / "run"))
    assert code == 0, said
    pd.testing.assert_frame_equal(windows(tmp_path / "run"), windows(streamed))
    pd.testing.assert_frame_equal(corpus(tmp_path / "run"), corpus(streamed))
    known = ["raised_tokens", "lowered_tokens"]  # with the subject model alone
    stored, live = features(tmp_path / "run"), features(streamed)
    assert stored[known].isna().all().all()
    assert live.notna().all().all()
    pd.testing.assert_frame_equal(stored.drop(columns=known), live.drop(columns=known))
    near = windows(streamed).query("kind == 'near_miss'")
    assert set(near.split) == {"label"}
    assert (near.activations.map(max) == 0).all()
    if store == "sparse":  # which needs no coder, but for the near misses
        code, _, said = cli("collect", *read[:2], *FEATURES, "--out", str(tmp_path / "alone"))
        assert code == 0
        assert "no near misses: without --sae it is unknown which features are similar" in said
        # Of the later splits windows are left out whose text is a near miss for labeling.
        mine = windows(tmp_path / "alone").query("split == 'label'").reset_index(drop=True)
        whole = windows(streamed).query("split == 'label' and kind != 'near_miss'")
        pd.testing.assert_frame_equal(mine, whole.reset_index(drop=True))
    # The whole job, with the settings that made the cache, finds it done.
    code, _, said = cli("capture", *DEMO, *cache, "--out", str(tmp_path / "other"))
    assert code == 0
    assert "already done" in said


@pytest.mark.parametrize("architecture", ["standard", "topk"])
@pytest.mark.parametrize("memory", ["0.0003", "0.00000001"])  # the last: a feature a pass
def test_in_several_passes_the_evidence_is_the_same(cli, planted, tmp_path, architecture, memory):
    coder = tmp_path / "sae"
    shutil.copytree(planted.coder, coder)
    (coder / "cfg.json").write_text(json.dumps({"architecture": architecture, "k": 2}))
    flags = ["--coder", str(coder), "--cache", str(planted.cache)]
    assert cli("collect", *flags, "--out", str(tmp_path / "one"))[0] == 0
    code, _, said = cli("collect", *flags, "--out", str(tmp_path / "many"), "--memory-gb", memory)
    assert code == 0
    assert "passes over the activations" in said
    assert len(windows(tmp_path / "one")) > 500
    pd.testing.assert_frame_equal(windows(tmp_path / "one"), windows(tmp_path / "many"))
    pd.testing.assert_frame_equal(features(tmp_path / "one"), features(tmp_path / "many"))
    record = [json.loads((tmp_path / n / "run.json").read_text()) for n in ("one", "many")]
    one, many = (r["stages"]["collect"]["corpus"] for r in record)
    assert one.pop("l0_quantiles") is not None
    assert many.pop("l0_quantiles") is None  # no pass saw all features of a token
    assert one == many


def test_what_counts_and_what_repeats_is_the_users(cli, tmp_path):
    small = [*DEMO[:-1], "8_192"]

    def collected(name, *flags):
        out = tmp_path / name
        code, _, said = cli("collect", *small, "--features", "0-59", "--out", str(out), *flags)
        assert code == 0, said
        record = json.loads((out / "run.json").read_text())["stages"]["collect"]
        return record, windows(out), features(out)

    whole, kept, known = collected("a")
    assert whole["corpus"]["masked"]["first_position"] == 64
    record, _, more = collected("b", "--masks", "special,norm_outlier")
    assert record["corpus"]["masked"].keys() == {
        "padding",
        "not_finite",
        "special",
        "norm_outlier",
    }
    assert record["corpus"]["tokens"] == whole["corpus"]["tokens"] + 64
    assert more.n_active.sum() > known.n_active.sum()
    assert whole["repeats_at_least"] > 0
    record, every, _ = collected("c", "--repeats", "none")
    assert record["repeats_at_least"] == record["shared_between_splits"] == 0
    assert len(kept) < len(every)
    code, _, said = cli("collect", *DEMO, "--masks", "first")
    assert code == 2
    assert "'first' is not a mask; masks: first_position, special" in said


def test_a_sparse_cache_is_of_its_coder(cli, tmp_path):
    flags = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    small = [*DEMO[:-1], "2048", *flags]
    assert cli("capture", *small, "--store", "sparse")[0] == 0
    assert cli("collect", *flags, "--coder", "demo", "--features", "0-9")[0] == 0
    write_saelens(tmp_path / "sae", "standard")
    code, _, said = cli("collect", *flags, "--coder", str(tmp_path / "sae"))
    assert code == 2
    assert "holds 3,072 features of another SAE (demo)" in said
    subject = write_subject(tmp_path / "subject")
    other = ["--subject", str(subject), "--text", "demo", "--hook", "residual:1"]
    code, _, said = cli("capture", *other, "--store", "sparse", "--out", str(tmp_path / "x"))
    assert code == 2
    assert "--store sparse needs a single --hook, and --sae with the SAE for it" in said


def test_latents_that_delphi_cached_give_the_windows_of_our_own_pass(cli, tmp_path):
    subject, text = DATA / "delphi" / "subject", DATA / "delphi" / "text.jsonl"
    common = ["--window-length", "8", "--window-before", "5", "--min-windows", "1"]
    common += ["--near-miss-windows", "0", "--split", "context"]  # Delphi knows no documents
    code, _, said = cli(
        "collect", "--cache", str(DATA / "delphi" / "latents"), "--subject", str(subject),
        "--out", str(tmp_path / "delphi"), *common,
    )  # fmt: skip
    assert code == 0, said
    assert "values in the cache were infinite" in said
    code, _, said = cli(
        "collect", "--coder", str(DATA / "delphi" / "coder" / "layers.1"), "--subject",
        str(subject), "--text", str(text), "--tokens", "320", "--context-length", "16",
        "--store", "float32", "--out", str(tmp_path / "ours"), *common,
    )  # fmt: skip
    assert code == 0, said
    theirs, ours = features(tmp_path / "delphi"), features(tmp_path / "ours")
    assert theirs.n_active.tolist() == ours.n_active.tolist()
    assert ours.n_active.sum() > 1000
    np.testing.assert_allclose(
        theirs.max_activation, ours.max_activation.clip(upper=65504), rtol=1e-3
    )
    # Half precision ties what was apart, so the sets of windows are compared, not their order.
    keys = ["feature", "kind", "split", "context", "start"]
    kept = [w[w.kind != "top"][keys] for w in (windows(tmp_path / n) for n in ("delphi", "ours"))]
    assert len(kept[1]) > 500
    pd.testing.assert_frame_equal(*(k.sort_values(keys, ignore_index=True) for k in kept))


def test_a_whole_run_from_latents_without_a_coder(cli, tmp_path):
    code, _, said = cli(
        "run", "--cache", str(DATA / "delphi" / "latents" / "layers.1"), "--subject",
        str(DATA / "delphi" / "subject"), "--out", str(tmp_path / "run"),
        "--window-length", "8", "--window-before", "5", "--min-windows", "1",
    )  # fmt: skip
    assert code == 0, said
    labels = pd.read_parquet(tmp_path / "run" / "labels.parquet")
    assert len(labels) == 60
    assert set(labels.sae) == {"layers.1"}
    assert (labels.status == "labeled").sum() > 5


def test_what_a_cache_holds_and_lacks(cli, planted, tmp_path):
    code, shown, _ = cli("cache", "info", str(planted.cache))
    assert code == 0
    for part in ("native, activations", "400 of 48 tokens", "19,200", "90 float32", "planted"):
        assert part in shown
    assert "lacks" not in shown
    code, shown, _ = cli("cache", "info", str(DATA / "saelens" / "cache"))
    assert code == 0
    for part in ("SAELens", "24 of 16 tokens", "8 float32", "model.layers.1", "lacks a tokenizer"):
        assert part in shown
    code, shown, _ = cli("cache", "info", str(DATA / "delphi" / "latents"))
    assert code == 0
    for part in ("Delphi", "feature activations", "60", "layers.1", "lacks norms"):
        assert part in shown
    np.save(tmp_path / "acts.npy", np.ones((2, 4, 3), dtype=np.float32))
    code, shown, _ = cli("cache", "info", str(tmp_path / "acts.npy"))
    assert code == 0
    for part in ("npy", "lacks token ids: pass them with --token-ids FILE", "lacks a padding mask"):
        assert part in shown
    code, _, said = cli("cache", "info", str(tmp_path / "none"))
    assert code == 2
    assert "no such file or folder" in said


def test_a_cache_without_token_ids_says_how_to_give_them(cli, planted, tmp_path):
    np.save(tmp_path / "acts.npy", np.ones((4, 48, 90), dtype=np.float32))
    flags = ["--coder", str(planted.coder), "--cache", str(tmp_path / "acts.npy")]
    flags += ["--subject", str(DATA / "saelens" / "subject"), "--out", str(tmp_path / "out")]
    code, _, said = cli("collect", *flags)
    assert code == 2
    assert "has no token ids: pass --token-ids FILE" in said
    assert not (tmp_path / "out").exists()
    np.save(tmp_path / "ids.npy", np.ones((4, 48), dtype=np.int64))
    assert cli("collect", *flags, "--token-ids", str(tmp_path / "ids.npy"))[0] == 0


def test_token_ids_given_as_tokens_say_how_to_give_them_now(cli, tmp_path):
    code, _, said = cli("collect", "--tokens", "ids.npy", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "passed as --token-ids ids.npy" in said
    code, _, said = cli("collect", *DEMO, "--token-ids", "ids.npy", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "--text gives its own" in said
    assert not (tmp_path / "out").exists()


def not_finite_from(folder, first):
    """A cache of 40 contexts, of which those from `first` on are no numbers."""
    activations = np.random.default_rng(0).normal(size=(40, 16, 90)).astype(np.float32)
    activations[first:] = np.nan
    np.save(folder / "acts.npy", activations)
    np.save(folder / "token_ids.npy", np.ones((40, 16), dtype=np.int64))
    return ["--cache", str(folder / "acts.npy"), "--subject", str(DATA / "saelens" / "subject")]


@pytest.mark.parametrize("sampled", [16, 40 * 16])
def test_a_cache_that_is_mostly_not_finite_makes_no_evidence(
    cli, planted, tmp_path, monkeypatch, sampled
):
    """Seen in the first contexts, or where they were fine once all is read."""
    monkeypatch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", sampled)
    flags = [*not_finite_from(tmp_path, 10), "--coder", str(planted.coder)]
    code, _, said = cli("collect", *flags, "--out", str(tmp_path / "out"))
    assert code == 2
    assert "have activations that are NaN or infinite; likely causes" in said
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_cache_with_some_activations_not_finite_is_read_and_said(cli, planted, tmp_path):
    flags = [*not_finite_from(tmp_path, 35), "--coder", str(planted.coder)]
    code, _, said = cli("collect", *flags, "--out", str(tmp_path / "out"))
    assert code == 0, said
    assert "NaN or infinite and are dropped" in said
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["stages"]["collect"]
    assert any("NaN or infinite" in remark for remark in recorded["remarks"])


def test_a_hook_that_is_not_what_the_layer_adds_is_said_by_doctor_and_before_a_pass(cli, tmp_path):
    subject = tmp_path / "subject"
    tiny_model_of("doge").save_pretrained(subject)  # whose layers weigh the residual they add to
    word_tokenizer().save_pretrained(subject)
    (tmp_path / "t.txt").write_text("the cat sat on the mat " * 30)
    write_saelens(tmp_path / "sae", "standard", d_in=16)
    out = tmp_path / "out"
    flags = ["--coder", str(tmp_path / "sae"), "--subject", str(subject), "--out", str(out)]
    flags += ["--text", str(tmp_path / "t.txt"), "--context-length", "4", "--tokens", "80"]
    for command in ("doctor", "collect", "capture"):
        code, _, said = cli(command, *flags, "--hook", "mlp_out:1")
        assert code == 2
        assert "--hook model.layers.1.mlp.output" in said
        assert "\n" not in said.strip()
        assert not list(out.rglob("*.parquet"))
        assert not (out / "cache").exists()
    assert "--hook" not in cli("doctor", *flags, "--hook", "model.layers.1.mlp.output")[2]


def test_doctor_on_the_demo_right_and_wrong(cli):
    code, shown, _ = cli("doctor", *DEMO)
    assert code == 0
    for part in ("topk k=32", "3,072 features of width 256", "L0", "FVU", "no problems found"):
        assert part in shown
    code, shown, _ = cli("doctor", *DEMO, "--hook", "residual:1")
    assert code == 1
    said = " ".join(shown.split())
    assert "the SAE reconstructs layer 2 better" in said
    assert "from residual:1, but the SAE's files name blocks.2.hook_resid_post" in said


def test_doctor_on_a_cache_that_was_scaled(cli, tmp_path, planted):
    folder = tmp_path / "c"
    out = ["--out", str(tmp_path / "out")]
    assert (
        cli("capture", *DEMO[:-1], "4096", "--cache", str(folder), "--store", "float32", *out)[0]
        == 0
    )
    code, shown, _ = cli("doctor", "--coder", "demo", "--cache", str(folder))
    assert code == 0, shown
    from safetensors.torch import load_file

    activations = load_file(folder / "acts-00000.safetensors")["acts"] / 20
    tokens = load_file(folder / "tokens.safetensors")["token_ids"]
    np.save(tmp_path / "acts.npy", activations.numpy())
    np.save(tmp_path / "token_ids.npy", tokens.numpy())
    flags = ["--cache", str(tmp_path / "acts.npy"), "--coder", "demo", "--subject", "demo"]
    code, shown, _ = cli("doctor", *flags)
    assert code == 1
    assert "worse than predicting the mean" in " ".join(shown.split())
    code, _, said = cli("collect", *flags, "--features", "0-5", *out)
    assert code == 0
    assert "worse than predicting the mean" in said


def test_several_hooks_are_captured_in_one_pass_and_read_one_at_a_time(cli, tmp_path):
    cache = tmp_path / "caches"
    flags = [
        "--subject",
        "demo",
        "--text",
        "demo",
        "--tokens",
        "2048",
        "--out",
        str(tmp_path / "r"),
    ]
    hooks = ["--hook", "residual:2,mlp_out:1"]
    assert cli("capture", *flags, *hooks, "--cache", str(cache))[0] == 0
    assert sorted(p.name for p in cache.iterdir()) == ["mlp_out-1", "residual-2"]
    code, _, said = cli("collect", "--coder", "demo", "--cache", str(cache))
    assert code == 2
    assert "holds 2 activation caches; choose one: mlp_out-1, residual-2" in said
    run = ["--coder", "demo", "--cache", str(cache / "residual-2"), "--features", "0-9"]
    assert cli("collect", *run, "--out", str(tmp_path / "a"))[0] == 0
    code, _, said = cli("collect", "--coder", "demo", *flags, *hooks)
    assert code == 2
    assert "a run reads only one; capture takes several" in said


def test_a_coder_of_another_width_is_said_before_anything_is_stored(cli, tmp_path):
    subject = write_subject(tmp_path / "subject")
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 30)
    write_saelens(tmp_path / "sae", "standard")
    flags = ["--coder", str(tmp_path / "sae"), "--subject", str(subject), "--text", str(text)]
    flags += ["--hook", "residual:1", "--context-length", "4", "--out", str(tmp_path / "out")]
    for command in ("run", "collect"):
        code, _, said = cli(command, *flags)
        assert code == 2
        assert "takes activations of width 6" in said
        assert "residual:1 gives width 16" in said
    code, _, said = cli("capture", *flags, "--store", "sparse", "--cache", str(tmp_path / "c"))
    assert code == 2
    assert not list(tmp_path.glob("c*"))


def test_runs_share_a_cache_made_from_the_same_settings(cli, planted, tmp_path):
    subject = write_subject(tmp_path / "subject", width=6)
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 30)
    coder = tmp_path / "sae"
    write_saelens(coder, "standard")
    flags = ["--coder", str(coder), "--subject", str(subject), "--text", str(text)]
    flags += ["--hook", "residual:1", "--context-length", "4", "--cache", str(tmp_path / "c")]
    assert cli("capture", *flags, "--out", str(tmp_path / "a"))[0] == 0
    code, _, said = cli("capture", *flags, "--out", str(tmp_path / "b"))
    assert code == 0
    assert "already done" in said
    text.write_text("another text " * 30)
    code, _, said = cli("capture", *flags, "--out", str(tmp_path / "b"))
    assert code == 2
    assert "was captured with different settings" in said
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    code, _, said = cli(
        "capture", *flags[:-1], str(tmp_path / "data"), "--out", str(tmp_path / "b")
    )
    assert code == 2
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"


@pytest.fixture
def capturing(tmp_path):
    """Flags of a small capture from a text, and where its cache goes."""
    subject = write_subject(tmp_path / "subject", width=6)
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 60)
    flags = ["--subject", str(subject), "--text", str(text), "--context-length", "4"]
    flags += ["--batch-contexts", "2", "--out", str(tmp_path / "out")]
    return flags, tmp_path / "c"


def test_a_cache_that_lost_a_shard_is_captured_again(cli, capturing):
    flags, cache = capturing
    flags = [*flags, "--hook", "residual:1", "--cache", str(cache)]
    assert cli("capture", *flags)[0] == 0
    whole = (cache / "acts-00000.safetensors").read_bytes()
    for spoil in (Path.unlink, lambda p: p.write_bytes(whole[:100])):
        spoil(cache / "acts-00000.safetensors")
        code, _, said = cli("capture", *flags)
        assert code == 0, said
        assert "already done" not in said
        assert (cache / "acts-00000.safetensors").read_bytes() == whole


def test_a_text_that_is_shorter_than_asked_for_is_said(cli, capturing):
    flags, cache = capturing
    flags = [*flags, "--hook", "residual:1", "--cache", str(cache)]
    code, _, said = cli("capture", *flags, "--tokens", "1000")
    assert code == 0
    assert "360 of 1,000 tokens" in said
    assert "left" not in said
    assert "capture: the text ends after 360 of the 1,000 tokens asked for" in said
    shutil.rmtree(cache)
    assert "ends after" not in cli("capture", *flags, "--tokens", "360")[2]


def test_what_was_not_read_again_is_not_said_to_have_ended(cli, capturing, monkeypatch):
    flags, _ = capturing
    write_saelens(Path(flags[-1]).parent / "sae", "standard")
    flags = [*flags, "--hook", "residual:1", "--coder", str(Path(flags[-1]).parent / "sae")]
    flags += ["--tokens", "300", "--memory-gb", "0.00000001", "--min-windows", "1"]
    monkeypatch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", 8)
    with monkeypatch.context() as patch:
        patch.setattr("autointerp.stages.collect.collect_stage.write_features", None)
        with pytest.raises(TypeError):
            cli("collect", *flags)
    code, _, said = cli("collect", *flags, "--memory-gb", "1000")  # the passes stay as they were
    assert code == 0, said
    assert said.count("resuming after 75 contexts") == 11
    assert "as it was begun: 11 passes over the activations" in said
    assert "the text ends" not in said


def test_an_unfinished_capture_of_other_settings_is_kept(cli, capturing, monkeypatch):
    flags, cache = capturing
    flags = [*flags, "--hook", "residual:1", "--cache", str(cache)]
    monkeypatch.setattr("autointerp.activations.writer.SHARD_BYTES", 1)
    monkeypatch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", 4)
    with monkeypatch.context() as patch:
        patch.setattr("autointerp.activations.writer.CacheWriter._finish", None)
        with pytest.raises(TypeError):
            cli("capture", *flags)
    code, _, said = cli("capture", *flags, "--store", "float32")
    assert code == 2
    assert "c.partial is an unfinished capture with different settings" in said
    code, _, said = cli("capture", *flags)
    assert code == 0
    assert "resuming after" in said


def test_hooks_that_are_captured_already_are_not_captured_again(cli, capturing, monkeypatch):
    flags, cache = capturing
    assert (
        cli("capture", *flags, "--hook", "residual:0", "--cache", str(cache / "residual-0"))[0] == 0
    )
    before = (cache / "residual-0" / "manifest.json").stat().st_mtime_ns
    several = ["--hook", "residual:0, residual:1,residual:0,", "--cache", str(cache)]
    code, _, said = cli("capture", *flags, *several)
    assert code == 0, said
    assert "already done" in said
    assert sorted(p.name for p in cache.iterdir()) == ["residual-0", "residual-1"]
    assert (cache / "residual-0" / "manifest.json").stat().st_mtime_ns == before
    code, _, said = cli("capture", *flags, "--hook", " ,", "--cache", str(cache / "x"))
    assert (code, said) == (2, "autointerp: ' ,' is not a hook point\n")
    (cache / "file").touch()
    code, _, said = cli("capture", *flags, *several[:-1], str(cache / "file"))
    assert code == 2
    assert len(said.splitlines()) == 1, said
    assert "cannot be written: Not a directory" in said


def test_doctor_compares_the_layers_that_have_the_place(cli, tmp_path):
    """Layers of hybrid models differ: only two of three have an attention of this kind."""
    subject = tmp_path / "subject"
    word_tokenizer().save_pretrained(subject)
    tiny_model("qwen3_5").save_pretrained(subject)
    (tmp_path / "t.txt").write_text("the cat sat on the mat " * 60)
    write_saelens(tmp_path / "sae", "standard", d_in=24)
    code, out, said = cli(
        "doctor", "--subject", str(subject), "--text", str(tmp_path / "t.txt"), "--hook",
        "hook_z:2", "--coder", str(tmp_path / "sae"), "--context-length", "4",
    )  # fmt: skip
    assert said == ""
    assert code in (0, 1)
    table = out[out.index("layer") :].splitlines()[1:3]
    assert [row.split()[0] for row in table] == ["0", "2"]


def test_a_coder_named_by_the_demo_and_its_settings(cli, tmp_path):
    from autointerp import demo

    moved = tmp_path / "sae"
    shutil.copytree(demo.CODER, moved)
    cfg = json.loads((moved / "cfg.json").read_text())
    (moved / "cfg.json").write_text(json.dumps(cfg | {"k": None}))
    flags = ["--subject", "demo", "--text", "demo", "--tokens", "2048", "--coder", str(moved)]
    code, _, said = cli("doctor", *flags)
    assert code == 2
    assert "--k sets it" in said
    code, shown, _ = cli("doctor", *flags, "--k", "16", "--coder-format", "saelens")
    assert "k=16" in shown
    code, _, said = cli("doctor", *flags, "--coder-format", "pickle")
    assert code == 2
    assert "there is no SAE format 'pickle'; there are" in said


def test_rows_without_text_stop_a_capture_or_are_skipped_and_said(cli, tmp_path):
    subject, text = write_subject(tmp_path / "subject"), tmp_path / "text"
    text.mkdir()
    (text / "README.md").write_text("about it")
    rows = [{"text": "the cat sat on the mat"}, {"text": None}, {"content": "x"}]
    (text / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--subject", str(subject), "--text", str(text), "--hook", "residual:1"]
    flags += ["--context-length", "4", "--out", str(tmp_path / "run")]
    code, _, said = cli("capture", *flags)
    assert code == 2
    assert "2 of the first 3 rows of the text cannot be used, over 1 %" in said
    assert "line 2: 'text' is null" in said
    assert "--skip-bad-rows" in said
    code, _, said = cli("capture", *flags, "--skip-bad-rows")
    assert code == 0, said
    assert "skipped 2 of 3 rows of the text" in said
    assert "skipped 1 files of the folder: README.md (about the data set)" in said
    # Skipping them changes nothing of what the others give.
    code, _, said = cli("capture", *flags)
    assert code == 0
    assert "already done" in said
