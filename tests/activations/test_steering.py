"""What is added at a hook, and the text that comes of it."""

import pytest
import torch

from autointerp import demo
from autointerp.activations.hooks import activations_at, resolve_hook
from autointerp.activations.steering import continuations, steered
from autointerp.activations.subject import load_subject
from autointerp.errors import AutointerpError
from tests.support.tiny import VOCABULARY, tiny_model

TOKENS = torch.arange(10).view(2, 5) % VOCABULARY
VALID = torch.ones_like(TOKENS, dtype=torch.bool)


@pytest.mark.parametrize(
    ("family", "place"),
    [
        ("llama", "residual:1"),
        ("llama", "resid_pre:1"),
        ("llama", "mlp_out:1"),
        ("llama", "hook_z:1"),
        ("gpt2", "residual:1"),
        ("gpt2", "attn_out:1"),
        ("qwen3_moe", "mlp_out:1"),
        ("neox", "mlp_in:1"),
    ],
)
def test_each_context_is_moved_by_its_own_shift(family, place):
    model = tiny_model(family)
    hook = resolve_hook(model, place)
    [before] = activations_at(model, [hook], TOKENS, VALID)
    shift = torch.randn(2, before.shape[2], generator=torch.Generator().manual_seed(0))
    with steered(hook, shift), torch.no_grad():
        # What a hook sees that was put there later.
        [after] = activations_at(model, [hook], TOKENS, VALID)
        logits = model(input_ids=TOKENS).logits
    torch.testing.assert_close(after, before + shift[:, None], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(model(input_ids=TOKENS).logits, logits)
        with steered(hook, torch.zeros_like(shift)):
            plain = model(input_ids=TOKENS).logits
        torch.testing.assert_close(plain, model(input_ids=TOKENS).logits)


def test_a_place_that_gives_no_activations_is_said():
    model = tiny_model("llama")
    hook = resolve_hook(model, "residual:1")
    with (
        steered(hook, torch.zeros(2, 7)),
        pytest.raises(AutointerpError, match="cannot be steered"),
    ):
        model(input_ids=TOKENS)


def test_a_direction_that_writes_a_token_raises_its_share():
    subject = load_subject(str(demo.SUBJECT), torch.device("cpu"))
    hook = resolve_hook(subject.model, "residual:3")
    [token] = subject.tokenizer(" self")["input_ids"]
    direction = subject.model.get_output_embeddings().weight[token].detach()
    starts = torch.arange(100, 108).repeat(4, 1)
    shift = torch.stack([direction * m for m in (0.0, 0.0, 300.0, 300.0)])
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = continuations(subject, hook, starts, shift, 6, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.shape == (4, 6)
    assert torch.equal(found, continuations(subject, hook, starts, shift, 6, seed=0))
    share = (found == token).float().mean(1)
    assert share[:2].max() < 0.4
    assert share[2:].min() > 0.9
    assert not torch.equal(found[0], found[1])
