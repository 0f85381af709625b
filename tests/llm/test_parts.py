import asyncio
import json
import ssl
import sys

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.limits.retry import backoff_s
from autointerp.llm.wire.call_errors import Decision, UnreadableReply, classify, parse_retry_after
from autointerp.llm.wire.client import ChatClient, _Response, certificates
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import read_reply
from autointerp.llm.wire.request import ChatRequest, request_key
from autointerp.llm.wire.structured import items

REQUEST_MODULE = sys.modules[_Response.__module__.partition(".")[0]]


def test_certificates_are_checked_and_read_once_for_all_connections(monkeypatch):
    assert certificates().verify_mode == ssl.CERT_REQUIRED
    assert certificates().check_hostname
    read = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *a, **k: read.append(a))
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *a, **k: read.append(a))
    client = ChatClient("https://x/v1", "k", timeout_s=1, max_connections=200)
    assert len(client._shards) > 1
    asyncio.run(client.close())
    assert not read


def status_error(code, body, headers=None):
    """The exception that the SDK itself raises for this response."""
    response = _Response(
        code, json=body, headers=headers, request=REQUEST_MODULE.Request("POST", "http://x/v1")
    )
    client = openai.AsyncOpenAI(api_key="k", base_url="http://x/v1")
    return client._make_status_error_from_response(response)


@pytest.mark.parametrize(
    ("code", "body", "action", "kind"),
    [
        (429, {"error": {"message": "slow down"}}, "retry", "rate_limit"),
        (429, {"error": {"message": "x", "code": "insufficient_quota"}}, "stop", "quota"),
        (402, {"error": {"message": "pay"}}, "stop", "quota"),
        (401, {"error": {"message": "key"}}, "stop", "status_401"),
        (404, {"detail": "Not Found"}, "stop", "status_404"),
        (400, {"error": {"message": "no such parameter"}}, "adapt", "status_400"),
        (422, {"detail": "Unexpected fields in the request: {'x'}"}, "adapt", "status_422"),
        (
            500,
            {"error": {"message": "should be 'json_object'"}},
            "adapt",
            "status_500",
        ),
        (503, {"error": {"message": "x", "code": "slow_down"}}, "retry", "overloaded"),
        (402, {"error": {"code": "in_flight_budget_exhausted"}}, "retry", "rate_limit"),
        (400, {"error": {"message": "This model's maximum context length"}}, "split", "too_long"),
        (400, {"error": {"message": "cannot parse a character"}}, "fail", "bad_request"),
        (400, {"error": {"message": "x", "code": "invalid_prompt"}}, "declined", "content_filter"),
        (403, {"error": {"message": "your input was flagged"}}, "declined", "content_filter"),
        (403, {"error": {"message": "country"}}, "stop", "status_403"),
        (400, {"message": "x", "code": "context_length_exceeded"}, "split", "too_long"),
        (413, "too large", "split", "too_long"),
        (400, {"error": {"message": "x", "code": "content_filter"}}, "declined", "content_filter"),
        (500, "oops", "retry", "server_error"),
        (529, {"error": "overloaded"}, "retry", "overloaded"),
        (408, None, "retry", "server_error"),
    ],
)
def test_statuses_are_classified(code, body, action, kind):
    decision = classify(status_error(code, body))
    assert (decision.action, decision.kind) == (action, kind)
    assert "\n" not in decision.message


def test_other_failures_are_classified():
    request = REQUEST_MODULE.Request("POST", "http://x")
    assert classify(TimeoutError()).kind == "timeout"
    assert classify(openai.APITimeoutError(request=request)).kind == "timeout"
    assert classify(openai.APIConnectionError(request=request)).kind == "connection"
    assert classify(UnreadableReply("x")).action == "retry"
    limited = status_error(429, {}, {"Retry-After": "7"})
    assert classify(limited).retry_after_s == 7
    assert not classify(limited).counted


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "150"}, 0.15),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "banana"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    now = 1792567680.0  # Wed, 21 Oct 2026 07:28:00 GMT
    assert parse_retry_after(headers, now) == (None if seconds is None else pytest.approx(seconds))


@given(
    failures=st.integers(1, 50),
    draw=st.floats(0, 1),
    asked=st.none() | st.floats(0, 1e6),
)
def test_backoff_is_bounded_and_never_less_than_asked(failures, draw, asked):
    seconds = backoff_s(Decision("retry", "x", "", retry_after_s=asked), failures, draw)
    assert min(asked or 0, 60) <= seconds <= 120


ENTRIES = [{"n": i, "label": f'a "label" {i} }} {{', "x": [{"y": 1}]} for i in range(1, 6)]


@given(st.integers(0, 400), st.booleans())
def test_any_cut_of_a_reply_gives_a_prefix_of_its_items(cut, pretty):
    whole = json.dumps({"labels": ENTRIES}, indent=2 if pretty else None)
    found = items(whole[:cut], "labels")
    assert found == ENTRIES[: len(found)]
    assert items(whole, "labels") == ENTRIES


@pytest.mark.parametrize(
    "text",
    [
        '{"labels": [{"n": 1}]}',
        '```json\n{"labels": [{"n": 1}]}\n```',
        'Sure! Here it is: {"labels": [{"n": 1}]} Anything else?',
        '<think>maybe {"labels": [{"n": 7}]}</think>{"labels": [{"n": 1}]}',
        'maybe {"labels": [{"n": 7}]}</think>{"labels": [{"n": 1}]}',
        '[{"n": 1}]',
        '{"n": 1}',
        '{"labels": [{"n": 1}, "junk", 3, null]}',
        'For example {"labels": [{"n": 7}]}. So: {"labels": [{"n": 1}]}',
    ],
)
def test_items_are_found_whatever_surrounds_them(text):
    assert items(text, "labels") == [{"n": 1}]


def test_thoughts_are_told_from_labels_about_them():
    entries = [{"n": 1, "label": "<think>a</think>"}, {"n": 2, "label": "fires on </think>\n"}]
    assert items(json.dumps({"labels": entries}), "labels") == entries
    assert items('<think>perhaps {"n": 1, "label": "draft"}', "labels") == []


def test_a_broken_item_costs_only_itself():
    text = '{"labels": [{"n": 1, "x": "a\nb"}, {"n": 2, "x": "say "hi""}, {"n": 3, "x": NaN}]}'
    assert items(text, "labels") == [{"n": 1, "x": "a\nb"}, {"n": 3, "x": None}]


def test_a_bottomless_envelope_is_unreadable_and_huge_usage_is_cut():
    with pytest.raises(UnreadableReply):
        read_reply(b"[" * 200_000)
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 10**400}}
    assert read_reply(json.dumps(body).encode()).usage.prompt_tokens < 2**31


def test_an_error_inside_a_good_status_counts_by_its_own_code():
    def action(error):
        with pytest.raises(UnreadableReply) as caught:
            read_reply(json.dumps({"error": error}).encode())
        return classify(caught.value).action

    assert action({"code": 402, "message": "no credits"}) == "stop"
    assert action({"code": 502, "message": "upstream"}) == "retry"
    assert action("oops") == "retry"


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text):
    assert isinstance(items(text, "labels"), list)
    assert items("{" * 50 + text, "labels") is not None


def envelope(**message):
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()


def test_envelopes():
    assert read_reply(envelope(content="hi")).text == "hi"
    assert read_reply(envelope(content=None)).text == ""
    assert read_reply(envelope(content=None, refusal="no")).declined
    filtered = {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}
    assert read_reply(json.dumps(filtered).encode()).declined


@pytest.mark.parametrize(
    "usage",
    [None, 3, {}, {"prompt_tokens": -4}, {"prompt_tokens": "9"}, {"prompt_tokens": None}],
)
def test_garbled_usage_counts_as_none(usage):
    body = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    assert read_reply(json.dumps(body).encode()).usage.prompt_tokens == 0


@pytest.mark.parametrize(
    "details", [{"prompt_tokens_details": {"cached_tokens": 99}}, {"prompt_cache_hit_tokens": 99}]
)
def test_cached_tokens_are_never_more_than_the_prompt(details):
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 10} | details}
    assert read_reply(json.dumps(body).encode()).usage.cached_tokens == 10


@given(st.text())
def test_any_text_can_be_requested_and_hashed(text):
    request = ChatRequest("m", ({"role": "user", "content": text},), 1)
    json.loads(Dialect().body(request))
    content = Dialect().content(request)
    assert request_key("http://a/v1", content) == request_key("http://a/v1/", content)
    assert request_key("http://a/v1", content) != request_key("http://b/v1", content)
    assert request_key("http://a/v1", content) != request_key("http://a/v1", content, 1)


@pytest.mark.parametrize(
    ("code", "body", "action", "kind"),
    [
        (
            429,
            [{"error": {"message": "You exceeded your current quota. Please retry in 34.07s."}}],
            "retry",
            "rate_limit",
        ),
        (400, [{"error": {"message": "API key expired."}}], "stop", "status_400"),
        (400, {"error": {"message": "Your credit balance is too low"}}, "stop", "quota"),
        (
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "metadata": {"raw": "maximum context length is 4096"},
                }
            },
            "split",
            "too_long",
        ),
        (400, {"error": {"message": "Content Exists Risk"}}, "declined", "content_filter"),
        (
            400,
            {"error": {"message": "Range of input length", "code": "invalid_parameter_error"}},
            "split",
            "too_long",
        ),
        (
            400,
            {"error": {"message": "x", "code": "invalid_parameter_error"}},
            "fail",
            "bad_request",
        ),
        (400, {"error": {"message": "x", "code": "json_validate_failed"}}, "retry", "unreadable"),
        (404, {"error": {"message": "model is unavailable"}}, "stop", "status_404"),
    ],
)
def test_what_several_providers_say_is_understood(code, body, action, kind):
    decision = classify(status_error(code, body))
    assert (decision.action, decision.kind) == (action, kind)


def test_when_to_try_again_may_be_in_words():
    body = {"error": {"message": "exceeded your current quota, retry in 34.07s"}}
    assert classify(status_error(429, body)).retry_after_s == pytest.approx(34.07)
