import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from autointerp.activations.batch import OUTLIER, SPECIAL, VALID, outliers
from autointerp.activations.cache import ActivationCache, CacheWriter
from autointerp.activations.capture import CaptureSettings, capture
from autointerp.activations.documents import documents
from autointerp.activations.hooks import activations_at, resolve_hook
from autointerp.errors import UserError
from autointerp.vocabulary import Vocabulary
from tests.coders.test_coder import write_saelens

CPU = torch.device("cpu")
WORDS = ["<end>", "the", "cat", "sat", "on", "mat", "<unk>"]
SIZES = {"vocab_size": len(WORDS)}


def tiny_models():
    torch.manual_seed(0)
    yield LlamaForCausalLM(
        LlamaConfig(
            **SIZES,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    yield GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=16, n_layer=3, n_head=2))
    yield GPTNeoXForCausalLM(
        GPTNeoXConfig(
            **SIZES,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
        )
    )


@pytest.fixture
def subject(tmp_path):
    path = tmp_path / "subject"
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>"
    ).save_pretrained(path)
    next(tiny_models()).save_pretrained(path)
    return path


@pytest.mark.parametrize("name", ["residual:1", "blocks.1.hook_resid_post"])
def test_hooks_give_the_residual_of_every_family_and_stop_there(name):
    token_ids = torch.randint(0, len(WORDS), (2, 5), generator=torch.Generator().manual_seed(1))
    for model in tiny_models():
        model.eval()
        with torch.no_grad():
            expected = model(token_ids, output_hidden_states=True).hidden_states[2]
        reached = []
        hook = resolve_hook(model, name)
        later = hook.path.rsplit(".", 1)[0] + ".2"
        model.get_submodule(later).register_forward_hook(lambda *_, r=reached: r.append(1))
        found = activations_at(model, hook, token_ids, torch.ones_like(token_ids))
        torch.testing.assert_close(found, expected)
        assert not reached
        assert resolve_hook(model, hook.path).module is hook.module


@pytest.mark.parametrize(
    ("name", "said"), [("residual:3", "layers 0 to 2"), ("model.nothing", "neither residual:N")]
)
def test_hooks_that_are_not_there_are_said(name, said):
    with pytest.raises(UserError, match=said):
        resolve_hook(next(tiny_models()), name)


def settings(subject, text, **changes):
    defaults = {
        "subject": str(subject),
        "hook": "residual:1",
        "text": str(text),
        "tokens": 20,
        "context_length": 4,
        "batch_contexts": 2,
        "d_in": 16,
    }
    return CaptureSettings(**(defaults | changes))


def test_capture_packs_documents_and_stores_what_the_hook_sees(subject, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("the cat sat")
    (folder / "b.txt").write_text("on the mat")
    (folder / "c.txt").write_text("cat cat cat mat the the")
    manifest = capture(settings(subject, folder), tmp_path / "cache", CPU, "x")
    cache = ActivationCache(tmp_path / "cache")
    expected = [[1, 2, 3, 0], [4, 1, 5, 0], [2, 2, 2, 5]]
    assert cache.token_ids.tolist() == expected
    assert manifest.contexts == 3
    assert manifest.tokens == 12
    assert manifest.documents == 3
    model = LlamaForCausalLM.from_pretrained(subject).eval()
    with torch.no_grad():
        hidden = model(torch.tensor(expected), output_hidden_states=True).hidden_states[2]
    batches = list(cache.batches(2, CPU))
    assert [b.first_context for b in batches] == [0, 2]
    stored = torch.cat([b.activations for b in batches])
    torch.testing.assert_close(stored.float(), hidden, rtol=1e-2, atol=1e-2)
    special = (cache.mask & SPECIAL) != 0
    assert special.tolist() == [[False, False, False, True]] * 2 + [[False] * 4]
    assert not batches[0].eligible()[:, 0].any()
    assert not batches[0].eligible()[:, 3].any()
    assert Vocabulary.load(tmp_path / "cache" / "vocabulary.parquet").token_text(2) == "cat"


def test_a_capture_that_fails_leaves_no_cache(subject, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 3)
    with pytest.raises(UserError, match="width 16, the coder takes 8"):
        capture(settings(subject, text, d_in=8), tmp_path / "cache", CPU, "x")
    with pytest.raises(UserError, match="at most 2048 tokens"):
        capture(settings(subject, text, context_length=4096), tmp_path / "cache", CPU, "x")
    text.write_text("the cat")
    with pytest.raises(UserError, match="less than one context"):
        capture(settings(subject, text), tmp_path / "cache", CPU, "x")
    assert not (tmp_path / "cache").exists()


def test_shards_hold_whole_contexts_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("autointerp.activations.cache._SHARD_BYTES", 3 * 5 * 2 * 4)
    writer = CacheWriter(tmp_path / "cache", 2, 5, torch.float32)
    activations = torch.arange(70, dtype=torch.float32).view(7, 5, 2)
    token_ids = torch.arange(35, dtype=torch.int32).view(7, 5)
    valid = torch.ones(7, 5, dtype=torch.bool)
    for rows in (slice(0, 2), slice(2, 7)):
        writer.add(token_ids[rows], valid[rows], activations[rows])
    assert not (tmp_path / "cache").exists()
    manifest = writer.finish(
        made_from="x",
        subject="s",
        hook="h",
        text="t",
        documents=1,
        packing="concatenated",
        special_token_ids=frozenset(),
    )
    assert [s.contexts for s in manifest.shards] == [3, 3, 1]
    cache = ActivationCache(tmp_path / "cache")
    for size in (1, 2, 10):
        batches = list(cache.batches(size, CPU))
        assert torch.equal(torch.cat([b.activations for b in batches]), activations)
        assert torch.equal(torch.cat([b.token_ids for b in batches]), token_ids)


def test_norm_outliers_are_ten_times_the_median_of_valid_tokens():
    norms = torch.tensor([[1.0, 2.0, 3.0, 25.0, 999.0]])
    valid = torch.tensor([[True, True, True, True, False]])
    assert outliers(norms, valid).tolist() == [[False, False, False, True, False]]
    assert VALID | SPECIAL | OUTLIER == 7


@pytest.fixture
def cache(subject, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 3)
    capture(settings(subject, text), tmp_path / "cache", CPU, "x")
    return tmp_path / "cache"


def spoil_manifest(cache, **changes):
    file = cache / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: (c / "manifest.json").unlink(), "no manifest.json"),
        (lambda c: (c / "manifest.json").write_text("{"), "is no manifest of version 1"),
        (lambda c: spoil_manifest(c, format_version=2), "format_version"),
        (lambda c: spoil_manifest(c, contexts=0), "is empty"),
        (lambda c: spoil_manifest(c, contexts=2), "but the manifest says"),
        (lambda c: (c / "acts-00000.safetensors").unlink(), "is missing or not"),
        (lambda c: (c / "acts-00000.safetensors").write_bytes(b"x"), "is missing or not"),
        (lambda c: (c / "tokens.safetensors").write_bytes(b"x" * 40), "cannot be read"),
    ],
)
def test_damaged_caches_are_said(cache, spoil, said):
    assert load_file(cache / "tokens.safetensors")["token_ids"].shape == (4, 4)
    spoil(cache)
    with pytest.raises(UserError, match=said):
        ActivationCache(cache)


def test_documents_come_from_files_folders_and_json_lines(tmp_path):
    lines = tmp_path / "t.jsonl"
    lines.write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert list(documents(str(lines))) == ["one", "two"]
    lines.write_text('{"text": "one"}\n{"body": "two"}\n')
    with pytest.raises(UserError, match="line 2: not a JSON object with 'text'"):
        list(documents(str(lines)))
    with pytest.raises(UserError, match="no such file or folder"):
        list(documents(str(tmp_path / "none")))


def test_the_demo_text_is_the_standard_library():
    first = next(documents("demo"))
    assert len(first) > 0
    assert first == next(documents("demo"))


def test_runs_share_a_cache_made_from_the_same_settings(cli, planted, subject, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 30)
    coder = tmp_path / "sae"
    write_saelens(coder, "standard")
    flags = ["--coder", str(coder), "--subject", str(subject), "--text", str(text)]
    flags += ["--hook", "residual:1", "--context-length", "4", "--cache", str(tmp_path / "c")]
    code, _, said = cli("capture", *flags, "--out", str(tmp_path / "a"))
    assert code == 2
    assert "width 16, the coder takes 6" in said
    config = LlamaConfig(
        **SIZES, hidden_size=6, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(subject)
    assert cli("capture", *flags, "--out", str(tmp_path / "a"))[0] == 0
    code, _, said = cli("capture", *flags, "--out", str(tmp_path / "b"))
    assert code == 0
    assert "done already" in said
    text.write_text("another text " * 30)
    code, _, said = cli("capture", *flags, "--out", str(tmp_path / "b"))
    assert code == 2
    assert "no cache made from these settings" in said
    (tmp_path / "data").mkdir()
    code, _, said = cli("capture", *flags, "--cache", str(tmp_path / "data"))
    assert code == 2
    assert (tmp_path / "data").is_dir()
