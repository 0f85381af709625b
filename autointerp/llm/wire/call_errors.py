"""Classifies failed calls, as a pure function of the exception."""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import openai

from autointerp.llm.wire.tls import tls_trouble
from autointerp.plain_text import tidy

# adapt: the endpoint does not take a parameter, or not under that name.
Action = Literal["retry", "adapt", "stop", "split", "declined", "fail"]


class UnreadableReply(Exception):
    """A reply with a good status whose body is not a chat completion.

    `code` is that of an error that the server sent in its place.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def read_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object that a server sent. Raises UnreadableReply, whatever it sent instead."""
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig", errors="replace")
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise UnreadableReply(f"the reply is not JSON: {text.strip()[:60]!r}") from None
    if not isinstance(value, dict):
        raise UnreadableReply("the reply is JSON, but not an object")
    return value


class OversizedReply(Exception):
    """More came than any reply needs; the rest was left unread."""


class Redirected(Exception):
    """The endpoint sends the request on to where it may not go."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a failed call.

    `counted` says whether it uses up one of the request's attempts: being throttled for the sake of
    a rate limit says nothing against the request.
    """

    action: Action
    kind: str
    message: str
    counted: bool = True
    retry_after_s: float | None = None

    @property
    def maybe_billed(self) -> bool:
        """Whether the request was taken and nothing, or no answer, came back."""
        return self.kind in ("timeout", "connection", "server_error", "too_large")

    @property
    def too_much(self) -> bool:
        """Whether the endpoint has more in hand than it can do: fewer requests at once may help."""
        return self.kind in ("rate_limit", "overloaded", "timeout")


_STOPPING_CODES = {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"}
_OVERLOADED_CODES = {
    "slow_down",
    "server_is_overloaded",
    "overloaded_error",
    "insufficient_system_resource",
}
_RATE = ("rate_limit", "rate limit", "too_many_requests", "too many requests", "throttling")
_TOO_LONG = (
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "context size",
    "maximum model length",
    "range of input length",
    "too long",
    "max_total_tokens",
)
_BAD_KEY = ("api key expired", "api key not valid", "api_key_invalid")
_NO_MONEY = ("exceeded your current quota", "credit balance is too low", "insufficient balance")
_RETRY_IN = re.compile(r"retry in ([0-9]+(?:\.[0-9]+)?) ?s")  # Gemini says so in words
_ERROR_STATUS = re.compile(r"[45][0-9][0-9]")
_FILTERED = (
    "content_filter",
    "content_policy_violation",
    "content management policy",
    "invalid_prompt",
    "moderation",
    "flagged",
    "content exists risk",
    "data_inspection_failed",
)
# What is wrong with every request alike: a parameter that the model does not take.
_UNSUPPORTED = (
    "parameter",
    "unsupported",
    "not support",
    "unrecognized",
    "not permitted",
    "unavailable",
    "unexpected",
    "literal_error",
    "extra_forbidden",
    "logprobs",
)
_SCHEMAS = ("schema", "grammar")  # that an endpoint cannot compile
_FORMATS = ("response_format", "json_object", "json_schema")
_MESSAGE_NAMES = ("message", "detail", "msg", "status_msg", "error_msg")
_CODE_NAMES = ("code", "type", "status_code", "error_code")
_MAX_LINE = 300  # characters of what a server says
_MAX_READ = 20 * _MAX_LINE  # of which some cannot be shown
_HIGHEST_CODE = 10**9
# How the names of errors begin, in httpx, httpx2 and aiohttp, before anything was sent.
_NEVER_SENT = (
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "UnsupportedProtocol",
    "ClientConnector",
)


def parse_retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds or an HTTP date).

    None where neither is there or can be read; never negative or infinite.
    """
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / scale
        except ValueError:
            try:
                date = parsedate_to_datetime(value)
                if date.tzinfo is None:
                    # HTTP knows one zone only.
                    date = date.replace(tzinfo=UTC)
                seconds = date.timestamp() - (time.time() if now is None else now)
            except (TypeError, ValueError, OverflowError):
                continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def server_message(body: object) -> tuple[str, str]:
    """(message, code) of an error body in any of the common shapes; empty where there is none."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return _line(body), ""
    inner = body.get("error") or body.get("base_resp") or body
    if not isinstance(inner, dict):
        return _line(inner), ""
    message = next((inner[name] for name in _MESSAGE_NAMES if inner.get(name)), "")
    codes = (inner.get(name) for name in _CODE_NAMES)
    code = next((str(code)[:_MAX_LINE] for code in codes if _is_code(code)), "")
    # Routers hide what their upstream said.
    metadata = inner.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return _line(f"{_line(message)}: {_line(raw)}" if raw else message), code


def _is_code(value: object) -> bool:
    return bool(value) and (
        isinstance(value, str) or (isinstance(value, int) and abs(value) < _HIGHEST_CODE)
    )


def _line(value: object) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str) if value else ""
    except (ValueError, RecursionError):
        # Numbers without end, or bottomless nesting.
        text = ""
    return tidy(text[:_MAX_READ])[:_MAX_LINE]


# What sending and reading a reply may raise; anything else is a bug and is not retried.
CALL_ERRORS = (
    openai.APIError,
    TimeoutError,
    OSError,
    UnreadableReply,
    OversizedReply,
    Redirected,
)


def classify(error: BaseException) -> Decision:
    """What to do about one of CALL_ERRORS."""
    if isinstance(error, UnreadableReply):
        return _classify_unreadable(str(error), error.code)
    if isinstance(error, OversizedReply):
        return Decision("retry", "too_large", str(error))
    if isinstance(error, Redirected):
        return Decision("stop", "redirected", str(error))
    if isinstance(error, openai.APIStatusError):
        headers = {k.lower(): v for k, v in error.response.headers.items()}
        message, code = server_message(error.body)
        return classify_status(error.status_code, message or _line(str(error)), code, headers)
    distrust = tls_trouble(error)
    if distrust:
        return Decision("stop", "certificate", distrust)
    cause = error.__cause__ or error
    words = _line(str(cause)) or type(cause).__name__
    if type(cause).__name__.startswith(_NEVER_SENT):
        # A server that is away says nothing against the request.
        return Decision("retry", "unreachable", f"no connection: {words}", counted=False)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Decision("retry", "timeout", "timed out waiting for a reply")
    return Decision("retry", "connection", f"connection failed: {words}")


def _classify_unreadable(message: str, code: str) -> Decision:
    """Some routers answer with status 200 and put the real status, or a code, inside."""
    code = code.lower()
    if _ERROR_STATUS.fullmatch(code):
        return classify_status(int(code), message, "", {})
    if code in _OVERLOADED_CODES:
        return Decision("retry", "overloaded", message, counted=False)
    if code and any(word in f"{code} {message}".lower() for word in _RATE):
        return Decision("retry", "rate_limit", message, counted=False)
    if code:
        decision = classify_status(400, message, code, {})
        if decision.action in ("stop", "declined", "split"):
            return decision
    return Decision("retry", "unreadable", message)


def classify_status(status: int, message: str, code: str, headers: Mapping[str, Any]) -> Decision:
    """What to do about an error status, by the server's code and words before the number."""
    said = f"{code} {message}".lower()
    wait = parse_retry_after(headers)
    asked = _RETRY_IN.search(said)
    if status == 429 and asked and wait is None:
        return Decision("retry", "rate_limit", message, False, float(asked[1]))
    if any(word in said for word in _BAD_KEY):
        return Decision("stop", f"status_{status}", f"status {status}: {message}")
    if status in (400, 403, 422) and any(word in said for word in _FILTERED):
        return Decision("declined", "content_filter", message)
    if status in (413, 414) or (status in (400, 422) and any(word in said for word in _TOO_LONG)):
        return Decision("split", "too_long", message)
    if code == "in_flight_budget_exhausted":
        return Decision("retry", "rate_limit", message, counted=False, retry_after_s=wait)
    if status == 402 or code in _STOPPING_CODES or any(word in said for word in _NO_MONEY):
        return Decision("stop", "quota", message)
    if status == 429:
        return Decision("retry", "rate_limit", message, counted=False, retry_after_s=wait)
    if status == 529 or code in _OVERLOADED_CODES:
        message = f"status {status}: {message}"
        return Decision("retry", "overloaded", message, counted=False, retry_after_s=wait)
    if status == 500 and any(word in said for word in _FORMATS):
        # Some servers find out only late that they do not know a way to ask for JSON.
        return Decision("adapt", f"status_{status}", f"status {status}: {message}")
    if status == 503:
        return Decision("retry", "overloaded", f"status {status}: {message}", True, wait)
    if status in (408, 409, 425) or status >= 500:
        return Decision("retry", "server_error", f"status {status}: {message}", True, wait)
    if code == "json_validate_failed":
        # The model's slip, which another try may not repeat.
        return Decision("retry", "unreadable", f"status {status}: {message}")
    said = message.lower()
    if status in (400, 422) and any(word in said for word in _UNSUPPORTED):
        return Decision("adapt", f"status_{status}", f"status {status}: {message}")
    if status in (400, 422) and any(word in said for word in _SCHEMAS):
        return Decision("adapt", f"status_{status}", f"status {status}: {message}")
    if status == 403 and "logprobs" in said:
        # OpenAI's, of models that keep theirs.
        return Decision("adapt", f"status_{status}", f"status {status}: {message}")
    if status == 404 and "requested parameters" in said:
        return Decision("adapt", f"status_{status}", f"status {status}: {message}")
    if status in (400, 422):
        return Decision("fail", "bad_request", f"status {status}: {message}")
    return Decision("stop", f"status_{status}", f"status {status}: {message}")
