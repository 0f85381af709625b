"""llama.cpp in an endpoint's place, with a random model of a few thousand parameters."""

import asyncio
import json

import gguf
import jsonschema_rs
import numpy as np
import pytest
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from autointerp.config.settings import RunConfig
from autointerp.errors import AutointerpError
from autointerp.llm.local.llamacpp import LlamaClient, open_server
from autointerp.llm.local.local_client import LOCAL
from autointerp.llm.wire.call_errors import UnreadableReply, classify
from autointerp.llm.wire.dialect import dialect_for
from autointerp.llm.wire.reply import read_reply
from autointerp.llm.wire.request import ChatRequest, list_of, number_lists
from autointerp.resources import local_model

WIDTH, HEADS, HIDDEN = 32, 2, 64
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LISTS = number_lists(["match", "other"], range(1, 5))
WORDS = list_of("words", {"word": {"type": "string", "maxLength": 8}}, 2)


def write_gguf(path):
    """A llama of one layer that reads bytes."""
    rng = np.random.default_rng(0)
    tokens = [*bytes_to_unicode().values(), "ab", "<|im_start|>", "<|im_end|>"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(258)
    writer.add_chat_template(TEMPLATE)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    shapes |= {f"blk.0.{name}_norm": (WIDTH,) for name in ("attn", "ffn")}
    shapes |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{name}": (HIDDEN, WIDTH) for name in ("gate", "up")}
    shapes["blk.0.ffn_down"] = (WIDTH, HIDDEN)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(0, 1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def server(path):
    return open_server(path, torch.device("cpu"), 3)


def body(text, **more):
    messages = ({"role": "user", "content": text},)
    asked = ChatRequest("m", messages, **{"max_tokens": 120, "temperature": 0.0} | more)
    return dialect_for(LOCAL).body(asked)


def send_all(server, sent):
    return send_by(lambda: LlamaClient(server, 3), sent)


def send_by(make_client, sent):
    async def main():
        client = make_client()
        try:
            return await asyncio.gather(*map(client.send, sent), return_exceptions=True)
        finally:
            await client.close()

    return asyncio.run(main())


def test_replies_follow_their_schemas_and_are_counted(server):
    sent = [body("x" * n, schema=schema) for n in (1, 30) for schema in (LISTS, WORDS)]
    for asked, sending in zip(sent, send_all(server, sent), strict=True):
        reply = read_reply(sending.raw)
        assert reply.model == "m"
        assert reply.usage.prompt_tokens > 0
        assert reply.usage.completion_tokens > 0
        assert reply.finish_reason == "stop"
        schema = json.loads(asked)["response_format"]["json_schema"]["schema"]
        jsonschema_rs.validate(schema, json.loads(reply.text))


def test_probabilities_are_given(server):
    (sending,) = send_all(server, [body("x", logprobs="top_logprobs", max_tokens=3)])
    tokens = read_reply(sending.raw).tokens
    # Bytes that are no character yet have none.
    assert {len(list(token.alternatives())) for token in tokens} == {15}


def test_transformers_says_the_same_from_the_same_file(server, path, monkeypatch):
    monkeypatch.setattr(local_model, "_is_for_llamacpp", lambda _: False)
    monkeypatch.setattr(local_model, "_dtype", lambda _: torch.float32)
    config = RunConfig(local_model=str(path))
    sent = [body("x" * n, schema=LISTS) for n in (1, 30)]
    sent.append(body("y", logprobs="top_logprobs", max_tokens=1))
    *lists, free = map(read_reply, (s.raw for s in send_all(server, sent)))
    sendings = send_by(lambda: local_model.open_client(config, torch.device("cpu")), sent)
    *other_lists, other_free = map(read_reply, (s.raw for s in sendings))
    assert [reply.text for reply in lists] == [reply.text for reply in other_lists]
    mine, others = (sorted(p for _, p in r.tokens[0].alternatives()) for r in (free, other_free))
    assert mine == pytest.approx(others, abs=0.1)


@pytest.mark.parametrize(
    ("more", "action", "kind"),
    [
        ({"text": "x" * 10_000}, "split", "too_long"),
        ({"schema": list_of("a", {"b": {"type": "no"}}, 1)}, "adapt", "status_400"),
        ({"logprobs": "prompt_logprobs"}, "adapt", "status_400"),
    ],
)
def test_what_cannot_be_done_is_refused_as_endpoints_do(server, more, action, kind):
    (refused,) = send_all(server, [body(more.pop("text", "x"), **more)])
    assert isinstance(refused, UnreadableReply)
    decision = classify(refused)
    assert (decision.action, decision.kind) == (action, kind)


def test_a_file_that_is_no_model_is_an_error_of_one_line(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + b"x" * 100)
    with pytest.raises(AutointerpError, match=r"x\.gguf cannot be loaded: llama\.cpp"):
        open_server(tmp_path / "x.gguf", torch.device("cpu"), 1)
