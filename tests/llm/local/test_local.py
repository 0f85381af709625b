"""A model of this process in an endpoint's place: constrained, batched, with probabilities."""

import asyncio
import json
import random

import jsonschema_rs
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autointerp.llm.local.generation import ChatModel
from autointerp.llm.local.local_client import LOCAL, LocalClient
from autointerp.llm.wire.call_errors import UnreadableReply, classify
from autointerp.llm.wire.dialect import dialect_for
from autointerp.llm.wire.reply import read_reply
from autointerp.llm.wire.request import ChatRequest, list_of, number_lists, one_of
from tests.support.local_model import MAX_CONTEXT, write_local_model

LABELS = list_of(
    "labels",
    {
        "n": one_of([1, 2]),
        "reason": {"type": "string", "maxLength": 40},
        "label": {"type": "string", "maxLength": 20},
        "confidence": {"type": "number"},
    },
    2,
)
LISTS = number_lists(["match", "other"], range(1, 9))
SAMPLES = ["def f(x):", "import os", "class A:\n    pass", "for i in range(10): print(i)"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = write_local_model(tmp_path_factory.mktemp("local") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer


@pytest.fixture
def chat(parts):
    return ChatModel(*parts)


def request(text, **more):
    messages = ({"role": "system", "content": "Answer."}, {"role": "user", "content": text})
    return ChatRequest("m", messages, **{"max_tokens": 150, "temperature": 0.0} | more)


def body(text, **more):
    return dialect_for(LOCAL).body(request(text, **more))


def bodies(rng, n, **more):
    """Of different lengths, schemas and limits."""
    kinds = [{"schema": LABELS}, {"schema": LISTS}, {"max_tokens": 20}, {"schema": LISTS}]
    return [
        body(" ".join(rng.choices(SAMPLES, k=rng.randint(1, 8))), **kinds[i % 4] | more)
        for i in range(n)
    ]


def send_all(chat, sent, rows, on_event=lambda _: None):
    async def main():
        client = LocalClient(chat, rows, on_event)
        try:
            return await asyncio.gather(*map(client.send, sent), return_exceptions=True)
        finally:
            await client.close()

    return [r if isinstance(r, Exception) else r.raw for r in asyncio.run(main())]


def choices(replies):
    return [json.loads(raw)["choices"][0] for raw in replies]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_replies_follow_their_schemas_in_the_declared_order(chat, temperature):
    sent = bodies(random.Random(0), 8, temperature=temperature)
    whole = 0
    for asked, raw in zip(sent, send_all(chat, sent, 8), strict=True):
        reply = read_reply(raw)
        wanted = json.loads(asked).get("response_format")
        if wanted is None or reply.finish_reason == "length":
            continue
        whole += 1
        found = json.loads(reply.text)
        jsonschema_rs.validate(wanted["json_schema"]["schema"], found)
        for one in found.get("labels", []):
            assert list(one) == ["n", "reason", "label", "confidence"]
    assert whole >= 4


def test_a_batch_gives_the_replies_of_single_requests(chat):
    sent = bodies(random.Random(1), 8)
    together = choices(send_all(chat, sent, 8))
    assert together == choices(send_all(chat, sent, 1))
    assert len({choice["message"]["content"] for choice in together}) > 4


def test_usage_counts_the_tokens_and_limits_are_kept(chat, parts):
    (raw,) = send_all(chat, [body("x = 1", max_tokens=7)], 1)
    reply = read_reply(raw)
    rendered = parts[1].apply_chat_template(
        [{"role": "system", "content": "Answer."}, {"role": "user", "content": "x = 1"}],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert reply.usage.prompt_tokens == len(parts[1].encode(rendered))
    assert (reply.usage.completion_tokens, reply.finish_reason) == (7, "length")


def forward(parts, text, reply=""):
    model, tokenizer = parts
    rendered = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Answer."}, {"role": "user", "content": text}],
        add_generation_prompt=True,
        tokenize=False,
    )
    ids = tokenizer.encode(rendered + reply)
    with torch.inference_mode():
        return ids, model(torch.tensor([ids])).logits[0].log_softmax(-1)


def test_probabilities_are_the_models_own(chat, parts):
    sent = [body(t, max_tokens=1, logprobs="top_logprobs") for t in SAMPLES]
    for text, raw in zip(SAMPLES, send_all(chat, sent, 4), strict=True):
        _, logprobs = forward(parts, text)
        (token,) = read_reply(raw).tokens
        expected = logprobs[-1].topk(15)
        found = list(token.alternatives())
        assert [p for _, p in found] == pytest.approx(expected.values.tolist(), abs=1e-3)
        assert [t for t, _ in found] == [parts[1].decode([int(i)]) for i in expected.indices]


def test_under_a_schema_probabilities_are_of_what_it_allows(chat):
    schema = number_lists(["match"], [1, 2])
    (raw,) = send_all(chat, [body("x", schema=schema, logprobs="top_logprobs")], 1)
    first = next(iter(read_reply(raw).tokens))
    alternatives = dict(first.alternatives())
    assert all('{"match": ['.startswith(text) for text in alternatives)
    assert sum(2.718281828**p for p in alternatives.values()) == pytest.approx(1, abs=1e-3)


def test_probabilities_of_the_prompt_are_the_models_own(chat, parts):
    text = SAMPLES[3] * 3
    (raw,) = send_all(chat, [body(text, max_tokens=1, logprobs="prompt_logprobs")], 1)
    ids, logprobs = forward(parts, text)
    first, *found = read_reply(raw).prompt
    assert not first.given
    assert len(found) == len(ids) - 1
    for place, position in enumerate(found):
        own = ids[place + 1]
        assert position.text == parts[1].decode([own])
        (_, logprob), *_ = position.alternatives()
        assert logprob == pytest.approx(float(logprobs[place, own]), abs=1e-3)


def test_what_is_drawn_depends_on_the_seed_and_on_how_often_it_was_asked(parts):
    sent = [body("x", temperature=1.5)] * 3
    first = choices(send_all(ChatModel(*parts), sent, 3))
    assert len({choice["message"]["content"] for choice in first}) == 3
    assert first == choices(send_all(ChatModel(*parts), sent, 1))
    (cold,) = choices(send_all(ChatModel(*parts), [body("x", temperature=1e-4)], 1))
    (greedy,) = choices(send_all(ChatModel(*parts), [body("x")], 1))
    assert cold == greedy


def test_draws_have_the_models_probabilities(parts):
    n = 400
    sent = [body("x", temperature=2.0, max_tokens=1)] * n
    drawn = [c["message"]["content"] for c in choices(send_all(ChatModel(*parts), sent, n))]
    _, logprobs = forward(parts, "x")
    tempered = (logprobs[-1] / 2.0).log_softmax(-1).exp()
    likeliest = tempered.topk(5).indices.tolist()
    for token in likeliest:
        p = float(tempered[token])
        count = drawn.count(parts[1].decode([token], skip_special_tokens=True))
        assert abs(count - n * p) < 5 * (n * p * (1 - p)) ** 0.5 + 1


@pytest.mark.parametrize(
    ("more", "action", "kind"),
    [
        ({"max_tokens": MAX_CONTEXT}, "split", "too_long"),
        ({"text": "x = 1\n" * MAX_CONTEXT}, "split", "too_long"),
        ({"schema": list_of("a", {"b": {"type": "no"}}, 1)}, "adapt", "status_400"),
        ({"schema": LISTS, "logprobs": "prompt_logprobs"}, "adapt", "status_400"),
    ],
)
def test_what_cannot_be_done_is_refused_as_endpoints_do(chat, more, action, kind):
    good = body("x", max_tokens=1)
    refused, reply = send_all(chat, [body(more.pop("text", "x"), **more), good], 2)
    assert isinstance(refused, UnreadableReply)
    decision = classify(refused)
    assert (decision.action, decision.kind) == (action, kind)
    assert read_reply(reply).usage.completion_tokens == 1


class Small:
    """A model that has memory for so many requests at once."""

    def __init__(self, chat, most):
        self.chat, self.most, self.batches = chat, most, []
        self.prepare, self.most_rows, self.stop = chat.prepare, chat.most_rows, chat.stop

    def answer(self, batch):
        self.batches.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.chat.answer(batch)


def test_where_memory_runs_out_batches_are_halved(chat):
    said = []
    small = Small(chat, 2)
    sent = bodies(random.Random(2), 8, max_tokens=5)
    replies = send_all(small, sent, 8, said.append)
    assert choices(replies) == choices(send_all(chat, sent, 8))
    assert small.batches == [8, 4, 2, 2, 2, 2]
    assert said == [f"out of memory: from now on at most {n} requests at a time" for n in (4, 2)]


def test_what_does_not_fit_alone_is_too_long(chat):
    (refused,) = send_all(Small(chat, 0), [body("x")], 4)
    assert classify(refused).kind == "too_long"


def test_a_model_that_breaks_is_an_error_of_one_line(chat, monkeypatch):
    def broken(batch):
        raise RuntimeError("the kernel broke\nand more")

    monkeypatch.setattr(chat, "answer", broken)
    (error,) = send_all(chat, [body("x")], 1)
    assert str(error) == "the local model failed: RuntimeError: the kernel broke"


def test_batches_are_of_like_length(chat):
    seen = []
    answer = chat.answer
    chat.answer = lambda batch: seen.append([len(one.ids) for one in batch]) or answer(batch)
    sent = [body("x " * n, max_tokens=1) for n in (1, 200, 2, 210, 3, 190)]
    send_all(chat, sent, 3)
    assert [max(batch) - min(batch) < 30 for batch in seen] == [True, True]
