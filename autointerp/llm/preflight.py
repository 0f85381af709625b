"""Checks that an endpoint answers before anything is spent."""

import asyncio

import openai

from autointerp.errors import EndpointError, EndpointRejectedError, EndpointUnreachableError
from autointerp.llm.wire.call_errors import (
    CALL_ERRORS,
    UnreadableReply,
    classify,
    read_object,
    server_message,
)
from autointerp.llm.wire.client import ChatClient
from autointerp.llm.wire.dialect import Dialect
from autointerp.llm.wire.reply import read_reply
from autointerp.llm.wire.request import ChatRequest
from autointerp.secrets import hide, masked

_LISTED = 5  # model names quoted in an error
_CHECK_URL = "check the base URL; most end in /v1"
_WRONG_KEY = (401, 403)


async def preflight(
    base_url: str, api_key: str, model: str, *, timeout_s: float, follow_redirects: bool = False
) -> None:
    """Find out whether the endpoint will answer, before anything is spent.

    Raises AutointerpError with the server's own words where it is unreachable, rejects the key or
    does not know the model.
    """
    hide(api_key)
    # The HTTP library's own error would print the key.
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise EndpointRejectedError(
            f"the key for {base_url} contains a space, a line break or a non-ASCII "
            "character: check the environment variable it comes from"
        )
    client = ChatClient(
        base_url,
        api_key,
        timeout_s=timeout_s,
        max_connections=1,
        follow_redirects=follow_redirects,
    )
    try:
        listed = await _models(client, timeout_s)
        if model not in listed:
            # Routers take names that they do not list: ask for one token, which costs nearly
            # nothing.
            await _probe(client, model, listed)
    finally:
        await client.close()


async def _models(client: ChatClient, timeout_s: float) -> list[str]:
    """The models that the endpoint lists; none where it does not say."""
    try:
        async with asyncio.timeout(timeout_s):
            body = read_object((await client.request("get", "/models")).raw)
    except UnreadableReply:
        return []
    except CALL_ERRORS as error:
        if isinstance(error, openai.APIStatusError):
            if error.status_code not in _WRONG_KEY:
                return []
            message = masked(server_message(error.body)[0])
            raise EndpointRejectedError(
                f"endpoint {client.base_url} rejects the key: "
                f"{message or f'status {error.status_code}'}"
            ) from None
        decision = classify(error)
        late = decision.kind == "timeout"
        reason = f"no reply within {timeout_s:g} s" if late else decision.message
        raise EndpointUnreachableError(
            f"endpoint {client.base_url} cannot be reached: {reason}"
        ) from None
    entries = body.get("data")
    names = [
        entry.get("id")
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
    ]
    return [name for name in names if isinstance(name, str)]


async def _probe(client: ChatClient, model: str, listed: list[str]) -> None:
    request = ChatRequest(model, ({"role": "user", "content": "Hi"},), max_tokens=1)
    try:
        read_reply((await client.send(Dialect().body(request))).raw)
    except CALL_ERRORS as error:
        decision = classify(error)
        if isinstance(error, UnreadableReply) and decision.kind == "unreadable":
            raise EndpointError(
                f"endpoint {client.base_url} does not return chat completions "
                f"({decision.message}): {_CHECK_URL}"
            ) from None
        # Too many requests for the moment is not a reason not to begin, nor is a parameter.
        if decision.kind != "rate_limit" and decision.action != "adapt":
            names = masked(", ".join(listed[:_LISTED]))
            offers = f" (it offers {names}{' …' if len(listed) > _LISTED else ''})" if names else ""
            hint = "" if listed or decision.kind != "status_404" else f"; {_CHECK_URL}"
            raise EndpointRejectedError(
                f"endpoint {client.base_url} does not serve {model!r}: "
                f"{decision.message}{offers}{hint}"
            ) from None
