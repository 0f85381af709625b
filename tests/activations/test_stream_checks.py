"""What the first batches show to be wrong ends a pass before it begins."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from autointerp.activations.activation_batch import NOT_FINITE, VALID, TokenBatch
from autointerp.activations.capture import capture
from autointerp.activations.contexts import TextSettings
from autointerp.activations.finite import check_finite, check_finite_batch
from autointerp.activations.formats import find_cache
from autointerp.activations.stream import StreamSettings, SubjectStream
from autointerp.errors import AutointerpError
from tests.support.tokenizers import WORDS, word_tokenizer, write_subject

CPU = torch.device("cpu")


def settings_of(folder, text, hook="residual:1", tokens=400):
    (folder / "text.txt").write_text(text)
    about_text = TextSettings(str(folder / "text.txt"), length=4)
    return StreamSettings(str(folder / "subject"), (hook,), about_text, tokens, 2, "float32")


@pytest.fixture
def folder(tmp_path):
    write_subject(tmp_path / "subject")
    return tmp_path


def rewrite(folder, change):
    model = LlamaForCausalLM.from_pretrained(folder / "subject")
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder / "subject")


@pytest.mark.parametrize(
    ("not_finite", "tokens", "outcome"),
    [(0, 0, None), (1, 100, None), (2, 100, "warns"), (50, 100, "warns"), (51, 100, "stops")],
)
def test_a_few_are_left_out_many_are_said_and_most_stop(not_finite, tokens, outcome):
    if outcome == "stops":
        with pytest.raises(AutointerpError, match=r"51 of 100 tokens of it .*float16"):
            check_finite(not_finite, tokens, "it")
    else:
        assert len(check_finite(not_finite, tokens, "it")) == (outcome == "warns")


def test_padding_is_no_token():
    mask = torch.tensor([[VALID | NOT_FINITE, VALID, VALID, VALID, NOT_FINITE, 0, 0, 0]])
    (said,) = check_finite_batch(TokenBatch(0, torch.zeros(1, 8), mask), "it")
    assert said.startswith("1 of 4 tokens of it (25%)")


def test_a_model_that_gives_no_numbers_is_said_before_a_file_is_touched(folder):
    rewrite(folder, lambda model: model.model.embed_tokens.weight.fill_(float("nan")))
    settings = settings_of(folder, "the cat sat on the mat " * 20)
    with pytest.raises(AutointerpError, match=r"tokens of .*subject at residual:1 \(100%\)"):
        capture(settings, [folder / "cache"], CPU, ["x"])
    assert not list(folder.glob("cache*"))


def lose(word):
    """Give a word an embedding that nothing can be computed with."""
    return lambda model: model.model.embed_tokens.weight[WORDS.index(word)].fill_(float("nan"))


def test_some_bad_tokens_are_said_and_counted(folder, capsys):
    rewrite(folder, lose("mat"))
    settings = settings_of(folder, "the cat sat on " * 20 + "the cat sat mat " * 2)
    (manifest,) = capture(settings, [folder / "cache"], CPU, ["x"])
    # Attention weighs what it does not look at by 0, which makes no number of NaN.
    assert (manifest.not_finite, manifest.tokens) == (8, 88)
    assert "8 of 88 tokens" in capsys.readouterr().err
    cache = find_cache(folder / "cache")
    assert int(((cache.mask & NOT_FINITE) != 0).sum()) == 8


def test_a_capture_that_turns_bad_later_is_never_taken_for_whole(folder, monkeypatch):
    monkeypatch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", 8)
    rewrite(folder, lose("mat"))
    settings = settings_of(folder, "the cat sat on " * 5 + "mat mat mat mat " * 20)
    with pytest.raises(AutointerpError, match="are NaN or infinite"):
        capture(settings, [folder / "cache"], CPU, ["x"])
    assert not (folder / "cache").exists()


def test_token_ids_beyond_the_embeddings_are_found_before_the_pass(folder, monkeypatch):
    monkeypatch.setattr("autointerp.activations.activation_batch.SAMPLE_TOKENS", 8)
    word_tokenizer([*WORDS, "added"]).save_pretrained(folder / "subject")
    fine = settings_of(folder, "the cat sat on " * 20)
    assert SubjectStream(fine, CPU).check() == []
    settings = settings_of(folder, "the cat sat on " * 20 + "the cat sat added ")
    with pytest.raises(AutointerpError, match=r"token 'added' has id 7, but .* ids below 7"):
        capture(settings, [folder / "cache"], CPU, ["x"])
    assert not list(folder.glob("cache*"))


def test_texts_beside_the_corpus_are_looked_at_too(folder):
    stream = SubjectStream(settings_of(folder, "the cat sat on " * 20), CPU)
    alone = stream.reader.alone([np.array([1, 7], dtype=np.int32)])
    with pytest.raises(AutointerpError, match="has id 7"):
        stream.run(alone, 0)
