import numpy as np
import pytest
import torch

from autointerp.activations.subject import Subject
from autointerp.evidence.directions import decoder_neighbors, output_tokens
from tests.support.tiny import tiny_model
from tests.support.tokenizers import word_tokenizer

GENERATOR = torch.Generator().manual_seed(0)
DECODER = torch.randn(600, 16, generator=GENERATOR)


def test_neighbors_are_those_of_largest_cosine():
    rows = torch.tensor([0, 7, 599])
    found = decoder_neighbors(DECODER, rows, 5)
    unit = DECODER.double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for number, row in enumerate(rows.tolist()):
        cosine = unit @ unit[row]
        cosine[row] = -np.inf
        expected = np.argsort(-cosine)[:5]
        assert found.item[number].tolist() == expected.tolist()
        np.testing.assert_allclose(found.score[number], cosine[expected], atol=1e-6)


def test_a_coder_of_few_features_has_few_neighbors():
    assert decoder_neighbors(DECODER[:3], torch.arange(3), 10).item.shape == (3, 2)


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3_5", "gpt2"])
def test_output_tokens_are_what_the_models_own_head_makes_of_a_direction(family):
    model = tiny_model(family)
    unembedding, gain = Subject(family, model, word_tokenizer()).unembedding()
    rows = torch.arange(300)
    raised, lowered = output_tokens(DECODER, unembedding, gain, rows, 3)
    base = model.base_model
    norm = base.ln_f if family == "gpt2" else base.norm
    with torch.no_grad():
        # A norm divides by a size and multiplies by its gain; the size is put back here.
        x = DECODER[:300]
        centered = x - x.mean(1, keepdim=True) if family == "gpt2" else x
        size = centered.square().mean(1, keepdim=True).sqrt()
        normed = norm(x) - (norm.bias if family == "gpt2" else 0)
        logits = model.get_output_embeddings()(normed * size)
        if family == "gpt2":
            logits += (x.mean(1, keepdim=True) * norm.weight) @ unembedding.T
    logits -= logits.mean(1, keepdim=True)
    torch.testing.assert_close(raised.score, logits.topk(3).values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(lowered.score, -(-logits).topk(3).values, rtol=1e-3, atol=1e-3)
