"""Parses a batch endpoint's status and results, tolerating malformed ones."""

import re
from http import HTTPStatus
from typing import Any

from autointerp.llm.wire.call_errors import (
    Decision,
    UnreadableReply,
    classify_status,
    read_object,
    server_message,
)
from autointerp.llm.wire.client import MAX_REPLY_BYTES
from autointerp.llm.wire.reply import read_reply
from autointerp.llm.wire.request import as_json

_KEY = re.compile(r"[0-9a-f]{64}")
_ERRORS = range(400, 600)
_MAX_COUNTED = 10**9  # requests of a batch
_QUOTED = 3  # errors
_NO_REASON = "no reason is given"


class NoReply(Exception):
    """A request of a batch that was not answered, and what to do about that."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message)
        self.decision = decision


def read_result(line: bytes) -> tuple[str, bytes]:
    """The key of a request and the body of its reply. Raises NoReply and UnreadableReply."""
    if len(line) > MAX_REPLY_BYTES:
        raise UnreadableReply("a line of the batch results is longer than any reply")
    result = read_object(line)
    key, response = result.get("custom_id"), result.get("response")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise UnreadableReply("a line of the batch results has no valid request id")
    if not isinstance(response, dict):
        raise NoReply(Decision("retry", "no_reply", server_message(result)[0] or _NO_REASON))
    status, body = response.get("status_code"), response.get("body")
    if status != HTTPStatus.OK:
        message, code = server_message(body)
        if isinstance(status, int) and status in _ERRORS:
            raise NoReply(classify_status(status, message, code, {}))
        raise NoReply(Decision("retry", "no_reply", message or _NO_REASON))
    try:
        return key, as_json(body)
    except RecursionError:
        raise UnreadableReply("a line of the batch results is nested too deeply") from None


def is_readable(raw: bytes) -> bool:
    try:
        read_reply(raw)
    except UnreadableReply:
        return False
    return True


def progress_of(batch: dict[str, Any]) -> str:
    """How many of its requests are done, where it says."""
    counts = batch.get("request_counts")
    if not isinstance(counts, dict):
        return ""
    done, total = counts.get("completed"), counts.get("total")
    if not all(isinstance(n, int) and 0 <= n < _MAX_COUNTED for n in (done, total)):
        return ""
    return f", {done} of {total} done"


def name_of(batch: dict[str, Any]) -> object:
    """The name that it was given when it was handed in."""
    metadata = batch.get("metadata")
    return metadata.get("autointerp") if isinstance(metadata, dict) else None


def errors_of(batch: dict[str, Any]) -> str:
    """Why it failed."""
    errors = batch.get("errors")
    found = errors.get("data") if isinstance(errors, dict) else None
    listed = found if isinstance(found, list) else []
    words = (server_message(error)[0] for error in listed[:_QUOTED])
    return "; ".join(filter(None, words)) or _NO_REASON
