import json
import resource
import signal
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from autointerp.activations.activation_batch import (
    NOT_FINITE,
    OUTLIER,
    SPECIAL,
    UNCOUNTED,
    VALID,
    norm_bits,
    norm_sample,
)
from autointerp.activations.capture import capture
from autointerp.activations.contexts import TextSettings
from autointerp.activations.formats import find_cache
from autointerp.activations.stream import StreamSettings, SubjectStream
from autointerp.activations.writer import CacheWriter
from autointerp.errors import AutointerpError
from autointerp.vocabulary import Vocabulary
from tests.support.tokenizers import chat_tokenizer, write_subject

CPU = torch.device("cpu")
EXPECTED = [[1, 2, 3, 0], [4, 1, 5, 0], [2, 2, 2, 5]]


@pytest.fixture
def subject(tmp_path):
    return write_subject(tmp_path / "subject")


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("the cat sat")
    (folder / "b.txt").write_text("on the mat")
    (folder / "c.txt").write_text("cat cat cat mat the the")
    return folder


def stream_settings(
    subject, text, hooks=("residual:1",), batch=2, tokens=20, dtype="bfloat16", **t
):
    about_text = TextSettings(str(text), **({"length": 4} | t))
    return StreamSettings(str(subject), hooks, about_text, tokens, batch, dtype)


def hidden_states(subject, token_ids):
    model = LlamaForCausalLM.from_pretrained(subject).eval()
    with torch.no_grad():
        return model(torch.tensor(token_ids), output_hidden_states=True).hidden_states


def everything(batches):
    parts = list(batches)
    return {
        name: torch.cat([getattr(b, name) for b in parts])
        for name in ("token_ids", "mask", "activations")
    }


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_files_that_were_not_read_are_counted(subject, text):
    def remarks(tokens):
        stream = SubjectStream(stream_settings(subject, text, batch=1, tokens=tokens), CPU)
        everything(stream.batches())
        return [r for r in stream.remarks() if "not read" in r]

    assert remarks(4) == [
        "the requested number of tokens was reached in file 1 of 3: "
        "the files after it were not read"
    ]
    assert remarks(12) == []


def test_a_stream_gives_what_the_hook_sees(subject, text):
    stream = SubjectStream(stream_settings(subject, text, dtype="float32"), CPU)
    found = everything(stream.batches())
    assert found["token_ids"].tolist() == EXPECTED
    torch.testing.assert_close(found["activations"], hidden_states(subject, EXPECTED)[2])
    special = (found["mask"] & SPECIAL) != 0
    assert special.tolist() == [[False, False, False, True]] * 2 + [[False] * 4]
    assert stream.get_vocabulary().token_text(2) == "cat"
    assert (stream.d_in, stream.context_length, stream.contexts) == (16, 4, 5)


def test_a_cache_holds_what_the_stream_gives_to_the_bit(subject, text, tmp_path):
    for dtype in ("bfloat16", "float32"):
        settings = stream_settings(subject, text, dtype=dtype)
        (manifest,) = capture(settings, [tmp_path / dtype], CPU, ["x"])
        streamed = everything(SubjectStream(settings, CPU).batches())
        cache = find_cache(tmp_path / dtype)
        assert str(cache.dtype) == f"torch.{dtype}"
        for size in (1, 2, 10):
            assert same(everything(cache.batches(size, CPU)), streamed)
        assert (manifest.contexts, manifest.tokens, manifest.documents) == (3, 12, 3)
        assert manifest.hook_module == "model.layers.1"
        assert manifest.bos == "none"
        assert len(manifest.tokenizer_sha256) == 64
        norms = streamed["activations"].float().norm(dim=-1)
        assert manifest.norms.mean == pytest.approx(float(norms.mean()), rel=1e-5)
        vocabulary = Vocabulary.load(tmp_path / dtype / "vocabulary.parquet")
        assert vocabulary.token_text(2) == "cat"


def test_several_hooks_in_one_pass(subject, text, tmp_path, monkeypatch):
    passes = []
    forward = LlamaForCausalLM.forward
    monkeypatch.setattr(
        LlamaForCausalLM, "forward", lambda *a, **k: (passes.append(1), forward(*a, **k))[1]
    )
    settings = stream_settings(subject, text, ("residual:0", "hook_z:1"), dtype="float32")
    capture(settings, [tmp_path / "r", tmp_path / "z"], CPU, ["x", "y"])
    assert len(passes) == 2  # batches
    residual, z = (everything(find_cache(tmp_path / n).batches(9, CPU)) for n in "rz")
    torch.testing.assert_close(residual["activations"], hidden_states(subject, EXPECTED)[1])
    assert residual["activations"].shape[-1] == 16
    assert z["activations"].shape[-1] == 24  # 2 heads of 12
    assert torch.equal(residual["token_ids"], z["token_ids"])


def test_padding_turns_and_beginnings_are_in_the_mask(subject, tmp_path):
    tokenizer = chat_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(subject)
    model = LlamaForCausalLM.from_pretrained(subject)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(subject)
    talk = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"}]
    rows = tmp_path / "t.jsonl"
    rows.write_text(json.dumps({"messages": talk}) + "\n")
    settings = stream_settings(
        subject, rows, length=10, packing="documents", turns="assistant", bos="context"
    )
    stream = SubjectStream(settings, CPU)
    (batch,) = stream.batches()
    # <bos> <user> the cat <end> <assistant> sat <end>, then padding
    assert batch.token_ids[0].tolist() == [7, 8, 1, 2, 0, 9, 3, 0, 11, 11]
    mask = batch.mask[0] & ~OUTLIER
    off = VALID | UNCOUNTED
    assert mask.tolist() == [
        off | SPECIAL, off, off, off, off | SPECIAL, off, VALID, off | SPECIAL, 0, 0,
    ]  # fmt: skip
    assert batch.masked_counts()["other_turns"] == 7
    assert batch.masked_counts()["padding"] == 2


def test_padding_changes_nothing_for_the_tokens_before_it(subject, tmp_path):
    rows = tmp_path / "t.jsonl"
    rows.write_text('{"text": "the cat"}\n{"text": "the cat sat on mat"}\n')
    settings = stream_settings(subject, rows, length=5, packing="documents", dtype="float32")
    found = everything(SubjectStream(settings, CPU).batches())
    alone = hidden_states(subject, [[1, 2]])[2]
    torch.testing.assert_close(found["activations"][0, :2], alone[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"length": 4096}, "at most 64 tokens"),
        ({"hooks": ("residual:9",)}, "layers 0 to 2"),
        ({"length": 64}, "less than one context"),
    ],
)
def test_what_cannot_be_captured_leaves_nothing(subject, text, tmp_path, changes, said):
    with pytest.raises(AutointerpError, match=said):
        capture(stream_settings(subject, text, **changes), [tmp_path / "cache"], CPU, ["x"])
    assert not list(tmp_path.glob("cache*"))


@pytest.mark.parametrize("spoil", ["model.safetensors", "config.json"])
def test_damaged_subjects_are_one_line(subject, text, tmp_path, spoil):
    (subject / spoil).write_bytes(b"{")
    with pytest.raises(AutointerpError, match="cannot be loaded") as raised:
        SubjectStream(stream_settings(subject, text), CPU)
    assert "\n" not in str(raised.value)
    with pytest.raises(AutointerpError, match="cannot be loaded"):
        SubjectStream(stream_settings(tmp_path / "nothing", text), CPU)


class _Killed(BaseException):
    """As sudden as a signal: nothing of ours catches it."""


def killed_after(monkeypatch, passes):
    real = SubjectStream._captured

    def dying(self, *span):
        for number, captured in enumerate(real(self, *span)):
            if number == passes:
                raise _Killed
            yield captured

    monkeypatch.setattr(SubjectStream, "_captured", dying)


@pytest.mark.parametrize("killed_at", [1, 2, 5, 8])
def test_a_killed_capture_goes_on_where_it_stopped(subject, tmp_path, monkeypatch, killed_at):
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 16)
    settings = stream_settings(subject, text, ("residual:1", "mlp_out:0"), tokens=96)
    monkeypatch.setattr("autointerp.activations.writer.SHARD_BYTES", 3 * 4 * 16 * 2)
    monkeypatch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", 8)
    whole = [tmp_path / "whole-r", tmp_path / "whole-m"]
    capture(settings, whole, CPU, ["x", "y"])
    cut = [tmp_path / "cut-r", tmp_path / "cut-m"]
    with monkeypatch.context() as patch:
        killed_after(patch, killed_at)
        with pytest.raises(_Killed):
            capture(settings, cut, CPU, ["x", "y"])
    assert not cut[0].exists()
    kept = len(list((tmp_path / "cut-r.partial").glob("acts-*")))
    assert kept == killed_at // 2  # shards of two batches
    runs = []
    real = SubjectStream._captured
    monkeypatch.setattr(
        SubjectStream, "_captured", lambda self, *span: (runs.append(span[0]), real(self, *span))[1]
    )
    capture(settings, cut, CPU, ["x", "y"])
    assert max(runs) == kept * 4  # contexts that are not run again
    for one, other in zip(whole, cut, strict=True):
        first, second = (find_cache(p) for p in (one, other))
        assert same(everything(first.batches(5, CPU)), everything(second.batches(5, CPU)))
        assert (one / "manifest.json").read_text() == (other / "manifest.json").read_text()
        assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())


def test_what_another_capture_left_is_not_gone_on_from(subject, text, tmp_path, monkeypatch):
    monkeypatch.setattr("autointerp.activations.writer.SHARD_BYTES", 1)
    settings = stream_settings(subject, text, batch=1)
    with monkeypatch.context() as patch:
        patch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", 4)
        killed_after(patch, 2)
        with pytest.raises(_Killed):
            capture(settings, [tmp_path / "c"], CPU, ["of other text"])
    assert list((tmp_path / "c.partial").glob("acts-*"))
    (manifest,) = capture(settings, [tmp_path / "c"], CPU, ["x"])
    assert manifest.made_from == "x"
    assert find_cache(tmp_path / "c").contexts == 3
    assert not (tmp_path / "c.partial").exists()


def test_shards_hold_whole_batches_in_order(subject, text, tmp_path, monkeypatch):
    monkeypatch.setattr("autointerp.activations.writer.SHARD_BYTES", 1)
    (manifest,) = capture(stream_settings(subject, text), [tmp_path / "c"], CPU, ["x"])
    assert [(s.first_context, s.contexts) for s in manifest.shards] == [(0, 2), (2, 1)]
    cache = find_cache(tmp_path / "c")
    whole = everything(cache.batches(3, CPU))
    for size in (1, 2):
        assert same(everything(cache.batches(size, CPU)), whole)


def test_norm_outliers_are_ten_times_the_median_of_valid_tokens():
    norms = torch.tensor([[1.0, 2.0, 3.0, 25.0, 999.0, float("inf"), float("nan")]])
    valid = torch.tensor([[True, True, True, True, False, True, True]])
    sample = norm_sample(norms, valid)
    assert sample.median == 2.0
    assert sample.mean == pytest.approx(31 / 4)
    bits = norm_bits(norms, valid, sample.median)[0].tolist()
    assert bits == [0, 0, 0, OUTLIER, 0, NOT_FINITE, NOT_FINITE]
    assert VALID | SPECIAL | OUTLIER | UNCOUNTED | NOT_FINITE == 31


def test_the_first_token_that_counts_is_masked_wherever_padding_ends():
    from autointerp.activations.activation_batch import TokenBatch

    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.uint8)
    batch = TokenBatch(0, torch.zeros(3, 5, dtype=torch.int32), mask)
    assert batch.eligible().int().tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0] * 5]
    assert batch.masked_counts()["first_position"] == 2


def test_a_full_disk_is_said_and_the_shards_before_are_kept(subject, tmp_path, monkeypatch):
    text = tmp_path / "t.txt"
    text.write_text("the cat sat on the mat " * 200)
    monkeypatch.setattr("autointerp.activations.writer.SHARD_BYTES", 4000)
    monkeypatch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", 8)
    settings = stream_settings(subject, text, tokens=1200)
    batches = []
    real = CacheWriter._write_shard

    def write(self):
        batches.append(1)
        if len(batches) == 3:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most))
        real(self)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(CacheWriter, "_write_shard", write)
            with pytest.raises(AutointerpError, match="cannot be written"):
                capture(settings, [tmp_path / "c"], CPU, ["x"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert CacheWriter(tmp_path / "c", "x").written > 0
    capture(settings, [tmp_path / "c"], CPU, ["x"])
    capture(settings, [tmp_path / "whole"], CPU, ["x"])
    both = (everything(find_cache(tmp_path / n).batches(9, CPU)) for n in ("c", "whole"))
    assert same(*both)


def test_a_place_that_cannot_be_written_is_said(subject, text):
    with pytest.raises(AutointerpError, match="/proc/c cannot be written"):
        capture(stream_settings(subject, text), [Path("/proc/c")], CPU, ["x"])
