"""What servers put into a reply of status 200: answers in odd places, failures, streams."""

import json

import pytest

from autointerp.llm.journal.journal_file import info
from autointerp.llm.wire.call_errors import UnreadableReply, classify
from autointerp.llm.wire.reply import read_reply, usage_of, was_cut
from tests.llm.test_faults import Wire
from tests.support.echo import Echo, run, say_back
from tests.support.fake_server import FakeServer, Fault

ANSWER = '{"labels": [{"n": 1, "label": "L \\u2028 M"}]}'


def completion(message, **choice):
    choices = [{"index": 0, "message": message, "finish_reason": "stop"} | choice]
    return json.dumps({"model": "m", "choices": choices}).encode()


# Where the answer stands


def part(text, kind="text"):
    return {"type": kind, "text": text}


def call(arguments):
    return {"id": "1", "type": "function", "function": {"name": "json", "arguments": arguments}}


THINKING = {"type": "thinking", "thinking": [part("hm {}")]}
PLACES = {
    "content": {"content": ANSWER},
    "a list of texts": {"content": [part(ANSWER[:20]), part(ANSWER[20:])]},
    "output_text": {"content": [part("hm", "reasoning"), part(ANSWER, "output_text")]},
    "strings": {"content": [ANSWER[:20], ANSWER[20:]]},
    "after thoughts": {"content": [THINKING, part(ANSWER)]},
    "reasoning_content": {"content": None, "reasoning_content": ANSWER},
    "reasoning": {"content": "\n", "reasoning": "\n" + ANSWER},
    "a tool call": {"content": None, "tool_calls": [call(ANSWER)]},
    "a tool call's object": {"tool_calls": [call(json.loads(ANSWER))]},
    "a function call": {"content": "", "function_call": {"name": "json", "arguments": ANSWER}},
    "content before all": {"content": ANSWER, "reasoning": "{}", "tool_calls": [call("{}")]},
}


@pytest.mark.parametrize("name", PLACES)
def test_answers_are_read_where_they_are(name):
    text = read_reply(completion(PLACES[name])).text
    assert json.loads(text) == json.loads(ANSWER)


def test_thoughts_are_no_answer():
    draft = {"content": "", "reasoning_content": 'Perhaps {"labels": []}? No.'}
    assert read_reply(completion(draft)).text == ""
    cut = {"content": "", "reasoning_content": '{"labels": [{"n": 1, "la'}
    assert read_reply(completion(cut, finish_reason="length")).text == ""
    assert read_reply(completion(draft)).thought
    assert not read_reply(completion(PLACES["reasoning"])).thought


# Failures


FAILURES = {  # what a server says instead of an answer, and the action, the kind and the words
    "OpenRouter": (
        {"choices": [{"finish_reason": "error", "message": {"content": ""},
                      "error": {"code": 502, "message": "Upstream overloaded"}}]},
        ("retry", "server_error", "Upstream overloaded"),
    ),
    "after a part of the answer": (
        {"choices": [{"finish_reason": "stop", "message": {"content": "half"},
                      "error": {"code": 429, "message": "slow down"}}]},
        ("retry", "rate_limit", "slow down"),
    ),
    "nothing but the reason": (
        {"choices": [{"finish_reason": "error", "message": {"content": ""}}]},
        ("retry", "unreadable", "finish_reason is error"),
    ),
    "vLLM": (
        {"choices": [{"finish_reason": "abort", "message": {"content": "ha"}}]},
        ("retry", "unreadable", "finish_reason is abort"),
    ),
    "DeepSeek": (
        {"choices": [{"finish_reason": "insufficient_system_resource", "message": {}}]},
        ("retry", "overloaded", "insufficient_system_resource"),
    ),
    "MiniMax": (
        {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        ("retry", "rate_limit", "rate limit"),
    ),
    "MiniMax without money": (
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        ("stop", "quota", "insufficient balance"),
    ),
    "FastChat": (
        {"object": "error", "message": "This model's maximum context length is 9", "code": 40303},
        ("split", "too_long", "maximum context length"),
    ),
    "Baidu": ({"error_code": 336100, "error_msg": "busy"}, ("retry", "unreadable", "busy")),
    "a code in words": (
        {"error": {"code": "rate_limit_exceeded", "message": "wait"}},
        ("retry", "rate_limit", "wait"),
    ),
    "a filter": (
        {"error": {"code": "content_filter", "message": "no"}},
        ("declined", "content_filter", "no"),
    ),
    "no quota": (
        {"error": {"type": "insufficient_quota", "message": "pay"}}, ("stop", "quota", "pay")
    ),
    "a long code": ({"error": {"code": "9" * 5000, "message": "x"}}, ("retry", "unreadable", "x")),
    "digits of another script": (
        {"error": {"code": "٤٢٩", "message": "x"}}, ("retry", "unreadable", "x")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_within_a_reply_is_one_of_its_kind(name):
    body, (action, kind, words) = FAILURES[name]
    with pytest.raises(UnreadableReply) as caught:
        read_reply(json.dumps({"model": "m"} | body).encode())
    decision = classify(caught.value)
    assert (decision.action, decision.kind) == (action, kind)
    assert words in decision.message
    assert len(decision.message) < 400


@pytest.mark.parametrize(
    "reason", ["content_filter", "content_filter: SAFETY", "SAFETY", "sensitive", "refusal"]
)
def test_what_a_filter_took_away_is_declined(reason):
    assert read_reply(completion({"content": None}, finish_reason=reason)).declined
    without = json.dumps({"choices": [{"index": 0, "finish_reason": reason}]}).encode()
    assert read_reply(without).declined


@pytest.mark.parametrize("reason", ["stop", "eos", "end_turn", None, 3])
def test_other_reasons_to_finish_are_none_to_fail(reason):
    assert read_reply(completion({"content": "x"}, finish_reason=reason)).text == "x"


def test_a_failed_choice_is_asked_for_again_and_not_kept(tmp_path):
    body, _ = FAILURES["OpenRouter"]
    once = lambda _r, seen, _i: Fault("raw", body=body) if seen == 0 else None  # noqa: E731
    with FakeServer(say_back, faults=once) as server:
        ran = run(server, [Echo("a")], tmp_path / "journal.sqlite")
    assert ran.results == [("a", "re: a")]
    assert ran.troubles == ["status 502: error in the reply: Upstream overloaded"]
    found = info(tmp_path / "journal.sqlite")
    assert (found.replies, found.unreadable) == (1, 1)


# Streams


def stream(*chunks, end="data: [DONE]\n\n", newline="\n"):
    events = "".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks)
    return (events + end).replace("\n", newline).encode()


def delta(content=None, finish=None, **more):
    change = more if content is None else {"content": content} | more
    return {"model": "m", "choices": [{"index": 0, "delta": change, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
PIECES = [delta(role="assistant"), *(delta(character) for character in ANSWER)]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_stream_is_read_as_the_reply_that_it_adds_up_to(newline):
    raw = stream(*PIECES, delta(finish="stop"), USAGE, newline=newline)
    reply = read_reply(b": a comment\n\n" + raw)
    assert (reply.text, reply.finish_reason, reply.model) == (ANSWER, "stop", "m")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (7, 3)
    assert usage_of(raw) == reply.usage


def test_a_stream_may_hold_what_a_reply_may():
    calls = [{"tool_calls": [{"index": 0, "function": {"arguments": c}}]} for c in ANSWER]
    tools = stream(*(delta(**one) for one in calls), delta(finish="tool_calls"))
    assert read_reply(tools).text == ANSWER
    thoughts = stream(*(delta(reasoning_content=c) for c in ANSWER), delta(finish="stop"))
    assert read_reply(thoughts).text == ANSWER
    token = {"token": "7", "logprob": -0.5, "top_logprobs": [{"token": "7", "logprob": -0.5}]}
    chunk = delta("7", "stop")
    chunk["choices"][0]["logprobs"] = {"content": [token]}
    positions = read_reply(stream(chunk)).tokens
    assert [list(position.alternatives()) for position in positions] == [[("7", -0.5)]]


BROKEN = {
    "ends early": (stream(*PIECES, end=""), "ends early"),
    "an error": (stream(*PIECES, {"error": {"code": 503, "message": "gone"}}, end=""), "gone"),
    "an error of the choice": (
        stream({"choices": [{"index": 0, "delta": {}, "error": {"message": "gone"}}]}), "gone"
    ),
    "failed": (stream(*PIECES, delta(finish="error")), "finish_reason is error"),
    "no JSON": (b"data: {\n\ndata: [DONE]\n\n", "not JSON"),
    "nothing": (b"data: [DONE]\n\n", "no choices"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_stream_is_no_reply(name):
    raw, words = BROKEN[name]
    with pytest.raises(UnreadableReply, match=words):
        read_reply(raw)


def test_a_stream_that_breaks_off_was_paid_for():
    assert was_cut(BROKEN["ends early"][0])
    assert not was_cut(stream(*PIECES, delta(finish="stop")))


def test_a_gateway_that_streams_all_the_same_is_read(tmp_path):
    async def streamed(writer, _nth):
        raw = stream(delta("fi"), delta("ne", "stop"))
        head = f"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nContent-Length: {len(raw)}"
        writer.write(head.encode() + b"\r\n\r\n" + raw)
        return True

    with Wire(streamed) as server:
        ran = run(server, [Echo("a")], tmp_path / "journal.sqlite")
        again = run(server, [Echo("a")], tmp_path / "journal.sqlite")
    assert ran.results == again.results == [("a", "fine")]
    assert again.totals.from_journal == 1
